//! Tests against the real kernel and a real registry.

//! skep-engine

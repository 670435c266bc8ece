//! skep-pki

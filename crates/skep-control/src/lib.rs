//! skep-control

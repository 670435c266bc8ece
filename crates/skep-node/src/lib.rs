//! skep-node

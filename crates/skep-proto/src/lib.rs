//! skep-proto

//! The handle.

use std::sync::Arc;

use skep_image::Images;
use skep_net::Net;

use crate::config::EngineConfig;

/// One host's engine. Clones share one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) images: Images,
    pub(crate) net: Net,
}

#[path = "pending.rs"]
mod pending;

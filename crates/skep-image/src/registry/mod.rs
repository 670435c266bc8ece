//! Registry client: HTTP API v2 of the OCI distribution specification and Docker's registry.
//!
//! Built on hyper and rustls directly. `oci-client` was looked at: it pulls in reqwest, has no
//! resumption, no sharing of downloads, no cross-repository mounts and no bounds on what a registry
//! answers, which are most of what this module is.

mod auth;
mod connect;
mod download;
mod endpoint;
pub(crate) mod error;
mod fetch;
mod login;
mod pull;
mod push;
mod running;
mod session;
mod tls;
mod upload;
mod url;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use tokio::sync::Semaphore;

pub use error::RegistryError;

use crate::{
    digest::Digest,
    error::Result,
    settings::{RegistryConfig, Settings},
};
use connect::Client;
use endpoint::Rules;
use running::Download;

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// Name and password.
    Password {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A refresh token from an earlier login.
    IdentityToken(String),
    /// A token for the registry itself.
    RegistryToken(String),
}

/// Never shows a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// What all operations with registries share.
pub(crate) struct Registry {
    rules: RwLock<Arc<Rules>>,
    verified: Client,
    unverified: Client,
    /// Running downloads, so that two pulls of a layer share one.
    downloads: Mutex<HashMap<Digest, Weak<Download>>>,
    download_slots: Semaphore,
    upload_slots: Semaphore,
}

impl Registry {
    /// # Errors
    /// [`RegistryError::Setting`] for an unusable mirror or insecure registry.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let certs = settings.registry.certs_dir.clone();
        let connect = settings.retry.connect;
        Ok(Self {
            rules: RwLock::new(Arc::new(Rules::new(&settings.registry)?)),
            verified: connect::client(tls::Trust::Verified(certs), connect),
            unverified: connect::client(tls::Trust::Anyone, connect),
            downloads: Mutex::default(),
            download_slots: Semaphore::new(settings.max_downloads.max(1)),
            upload_slots: Semaphore::new(settings.max_uploads.max(1)),
        })
    }

    /// Where registries are and how they may be spoken to. A transfer keeps the rules it began with.
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// # Errors
    /// As [`Registry::new`]; the old rules hold then.
    pub(crate) fn set_rules(&self, config: &RegistryConfig) -> Result<()> {
        let rules = Arc::new(Rules::new(config)?);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }
}

//! Registry client: HTTP API v2.
use std::fmt;
use crate::error::Kind;

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

/// Why a registry operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Placeholder.
    #[error("x")]
    Placeholder,
}
impl RegistryError {
    /// What kind of failure this is.
    pub fn kind(&self) -> Kind { Kind::System }
}

/// The client.
pub(crate) struct Registry;
impl Registry {
    pub(crate) fn new(_s: &crate::Settings) -> crate::Result<Self> { Ok(Self) }
}

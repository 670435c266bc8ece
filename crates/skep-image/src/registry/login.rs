//! `docker login`.

use super::{
    Credentials,
    endpoint::Endpoint,
    error::{no_place, telling},
    session::Session,
};
use crate::{error::Result, reference::DEFAULT_DOMAIN, store::Images};

impl Images {
    /// `docker login`: checks credentials at a registry (`""` and Docker's old address mean Docker
    /// Hub). Returns an identity token to keep instead of the password, if the registry gives one.
    ///
    /// # Errors
    /// [`crate::registry::RegistryError::Unauthorized`] for wrong credentials, others when the
    /// registry cannot be asked.
    pub async fn login(&self, server: &str, who: &Credentials) -> Result<Option<String>> {
        let host = server.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or(host);
        let domain = if matches!(host, "" | "index.docker.io" | "docker.io") {
            DEFAULT_DOMAIN
        } else {
            host
        };
        let places: Vec<Endpoint> = self.inner.registry.rules().for_push(domain).await;
        let mut first = None;
        for place in places {
            let session = Session::new(&self.inner, place, "", Vec::new(), who);
            match session.hello(true).await {
                Ok(token) => return Ok(token.and_then(|token| token.refresh_token)),
                Err(error) if error.is_passing() => first = telling(first, error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(first.unwrap_or_else(|| no_place(server)).into())
    }
}

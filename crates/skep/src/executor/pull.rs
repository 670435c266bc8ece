//! Images of tasks.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use serde::Deserialize;
use skep_agent::{Cause, ExecError};
use skep_engine::{Engine, PullOptions};
use skep_image::Credentials;

/// The `X-Registry-Auth` form that clients send with a service.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RegistryAuth {
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Pulls an image; its progress goes nowhere.
pub async fn pull(engine: &Engine, image: &str, auth: &str) -> Result<(), ExecError> {
    // As when Docker's agent finds neither image nor registry: the words users search for.
    let no_image = |source| ExecError::fatal(format!("No such image: {image}"), source);
    let options = PullOptions {
        name: image.to_owned(),
        // A name without a tag means every tag to the API.
        tag: (!image.contains('@') && !has_tag(image)).then(|| "latest".to_owned()),
        platform: None,
        credentials: credentials(auth)?,
    };
    let mut progress = engine.image_pull(options).await.map_err(no_image)?;
    while let Some(step) = progress.next().await {
        step.map_err(no_image)?;
    }
    Ok(())
}

fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

fn credentials(auth: &str) -> Result<Credentials, ExecError> {
    if auth.is_empty() {
        return Ok(Credentials::default());
    }
    let unreadable = |source: Cause| {
        ExecError::fatal("read the registry credentials that came with the service", source)
    };
    let json = URL_SAFE
        .decode(auth)
        .or_else(|_| URL_SAFE_NO_PAD.decode(auth))
        .map_err(|error| unreadable(error.into()))?;
    let auth: RegistryAuth =
        serde_json::from_slice(&json).map_err(|error| unreadable(error.into()))?;
    Ok(if !auth.identitytoken.is_empty() {
        Credentials::IdentityToken(auth.identitytoken)
    } else if !auth.registrytoken.is_empty() {
        Credentials::RegistryToken(auth.registrytoken)
    } else if !auth.username.is_empty() {
        Credentials::Password { username: auth.username, password: auth.password }
    } else {
        Credentials::Anonymous
    })
}

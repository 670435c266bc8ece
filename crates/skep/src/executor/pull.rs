//! Images of tasks.

use futures::StreamExt as _;
use skep_agent::ExecError;
use skep_engine::{Engine, PullOptions};

/// Pulls an image; its progress goes nowhere.
pub async fn pull(engine: &Engine, image: &str, auth: &str) -> Result<(), ExecError> {
    // As when Docker's agent finds neither image nor registry: the words users search for.
    let no_image = |source| ExecError::fatal(format!("No such image: {image}"), source);
    let options = PullOptions {
        name: image.to_owned(),
        // A name without a tag means every tag to the API.
        tag: (!image.contains('@') && !has_tag(image)).then(|| "latest".to_owned()),
        platform: None,
        credentials: skep_api::registry_credentials(auth).map_err(|why| {
            ExecError::refused(format!(
                "the registry credentials of the service are not valid: {why}"
            ))
        })?,
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

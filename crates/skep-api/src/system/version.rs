use axum::extract::State;
use bollard_stubs::models::{SystemVersion, SystemVersionComponents};

use crate::backend::{App, Product};
use crate::http::{ApiResult, MAX_VERSION, MIN_VERSION, json, to_value};

/// `GET /version`.
pub(super) async fn version(State(app): State<App>) -> ApiResult {
    let mut version = app.engine.system_version();
    describe(&mut version, &app.product);
    json(&to_value(&version)?)
}

/// Adds what the engine does not know: which product it is part of, and the API's versions.
fn describe(version: &mut SystemVersion, product: &Product) {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    version.version = Some(product.version.clone());
    version.api_version = Some(MAX_VERSION.to_string());
    version.min_api_version = Some(MIN_VERSION.to_string());
    version.git_commit = known(&product.commit).or(version.git_commit.take());
    version.build_time = known(&product.built).or(version.build_time.take());
    version.go_version.get_or_insert_default();
    version.os.get_or_insert_with(|| "linux".to_owned());
    version.experimental = None;
    if let Some(platform) = &mut version.platform
        && platform.name.is_empty()
    {
        platform.name.clone_from(&product.name);
    }
    // The client shows the engine's component rather than the fields above.
    let fields = [
        ("ApiVersion", version.api_version.clone()),
        ("MinAPIVersion", version.min_api_version.clone()),
        ("GitCommit", version.git_commit.clone()),
        ("GoVersion", version.go_version.clone()),
        ("BuildTime", version.build_time.clone()),
        ("Os", version.os.clone()),
        ("Arch", version.arch.clone()),
        ("KernelVersion", version.kernel_version.clone()),
        ("Experimental", Some("false".to_owned())),
    ];
    if let Some(engine) = engine(version) {
        engine.version.clone_from(&product.version);
        let details = engine.details.get_or_insert_default();
        for (key, text) in fields {
            details.insert(key.to_owned(), text.unwrap_or_default());
        }
    }
}

fn engine(version: &mut SystemVersion) -> Option<&mut SystemVersionComponents> {
    version.components.iter_mut().flatten().find(|component| component.name == "Engine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_tells_what_the_client_shows() {
        let component = SystemVersionComponents { name: "Engine".into(), ..Default::default() };
        let mut version =
            SystemVersion { components: Some(vec![component]), ..SystemVersion::default() };
        let product = Product {
            name: "skep".into(),
            version: "1.2".into(),
            commit: String::new(),
            built: String::new(),
        };
        describe(&mut version, &product);
        let component = engine(&mut version).unwrap();
        let details = component.details.as_ref().unwrap();
        assert_eq!(component.version, "1.2");
        assert_eq!(
            (details["ApiVersion"].as_str(), details["MinAPIVersion"].as_str()),
            ("1.50", "1.24")
        );
        assert_eq!(details["Experimental"], "false");
    }
}

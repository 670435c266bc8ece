//! Which networks a container is to be on, from a create request.

use bollard_stubs::models::{HostConfig, NetworkingConfig};

use super::attachment::Attachment;
use crate::error::{EngineError, Result};

/// The network of `NetworkMode` first, then the others of `NetworkingConfig` by name. None for
/// `container:…`.
///
/// # Errors
/// `Invalid` when the host's or another container's network is combined with others.
pub fn wanted(host: &HostConfig, networking: Option<&NetworkingConfig>) -> Result<Vec<Attachment>> {
    let mode = host
        .network_mode
        .as_deref()
        .filter(|m| !m.is_empty() && *m != "default")
        .unwrap_or("bridge");
    let mut endpoints: Vec<_> = networking
        .and_then(|n| n.endpoints_config.clone())
        .unwrap_or_default()
        .into_iter()
        .collect();
    endpoints.sort_by(|a, b| a.0.cmp(&b.0));
    // Clients put the mode's settings under the mode's own word, also `default`.
    let is_mode = |name: &str| name == mode || (name == "default" && mode == "bridge");
    if mode.starts_with("container:") {
        return match endpoints.iter().find(|(name, _)| !is_mode(name)) {
            Some(_) => Err(EngineError::invalid(
                "conflicting options: container type network can't be used with other networks",
            )),
            None => Ok(Vec::new()),
        };
    }
    if matches!(mode, "host" | "none")
        && let Some((name, _)) = endpoints.iter().find(|(name, _)| !is_mode(name))
    {
        return Err(EngineError::Invalid(format!(
            "conflicting options: cannot attach both {mode} and {name}: network-mode {mode} excludes other networks"
        )));
    }
    let mut list = vec![Attachment::new(mode)];
    for (name, settings) in endpoints {
        if is_mode(&name) {
            list[0].settings = settings;
        } else {
            list.push(Attachment { network: name, settings, service: None });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_stubs::models::EndpointSettings;

    fn run(mode: &str, names: &[&str]) -> Result<Vec<String>> {
        let host = HostConfig { network_mode: Some(mode.into()), ..Default::default() };
        let networking = NetworkingConfig {
            endpoints_config: Some(
                names.iter().map(|n| ((*n).to_owned(), EndpointSettings::default())).collect(),
            ),
        };
        Ok(wanted(&host, Some(&networking))?.into_iter().map(|a| a.network).collect())
    }

    #[test]
    fn order_and_conflicts() {
        assert_eq!(run("", &[]).unwrap(), ["bridge"]);
        assert_eq!(run("default", &["default"]).unwrap(), ["bridge"]);
        assert_eq!(run("web", &["zoo", "web", "abc"]).unwrap(), ["web", "abc", "zoo"]);
        assert_eq!(run("host", &["host"]).unwrap(), ["host"]);
        assert!(run("container:x", &[]).unwrap().is_empty());
        assert!(run("container:x", &["web"]).is_err());
        assert!(run("host", &["web"]).is_err());
        assert!(run("none", &["web"]).is_err());
    }
}

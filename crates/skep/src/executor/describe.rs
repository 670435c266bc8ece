//! What this host tells the swarm about itself.

use skep_engine::{Engine, EngineError};
use skep_types::{EngineDescription, NodeDescription, Platform, PluginDescription, Resources};

/// Everything the scheduler looks at. Network drivers that containers can name are listed because
/// Docker's managers place a task only where its network's driver is.
pub async fn description(engine: &Engine) -> Result<NodeDescription, EngineError> {
    let info = engine.system_info().await?;
    let labels = engine
        .reloadable()
        .labels
        .iter()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let plugins = [
        ("Log", "json-file"),
        ("Log", "none"),
        ("Network", "bridge"),
        ("Network", "host"),
        ("Network", "null"),
        ("Network", "overlay"),
        ("Volume", "local"),
    ];
    Ok(NodeDescription {
        hostname: info.name.unwrap_or_default(),
        platform: Platform {
            architecture: info.architecture.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
        },
        resources: Resources {
            nano_cpus: info.ncpu.unwrap_or(0).saturating_mul(1_000_000_000),
            memory_bytes: info.mem_total.unwrap_or(0),
            generic_resources: Vec::new(),
        },
        engine: Some(EngineDescription {
            engine_version: engine.config().version.clone(),
            labels,
            plugins: plugins
                .map(|(kind, name)| PluginDescription {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                })
                .to_vec(),
        }),
        tls_info: None,
    })
}

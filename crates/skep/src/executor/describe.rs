//! What this host tells the swarm about itself.

use skep_engine::Engine;
use skep_types::{EngineDescription, NodeDescription, Platform, PluginDescription, Resources};

/// Everything the scheduler looks at. Network drivers that containers can name are listed because
/// Docker's managers place a task only where its network's driver is.
///
/// Asked for each task that comes, so it looks at nothing that grows with their number.
pub fn description(engine: &Engine) -> NodeDescription {
    let facts = engine.host_facts();
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
    NodeDescription {
        hostname: facts.name,
        platform: Platform { architecture: facts.architecture, os: facts.os },
        resources: Resources {
            nano_cpus: facts.cpus.saturating_mul(1_000_000_000),
            memory_bytes: facts.memory,
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
    }
}

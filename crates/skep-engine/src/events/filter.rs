//! Which events a listener wants.

use bollard_stubs::models::{EventMessage, EventMessageTypeEnum as Type};

use crate::error::Result;
use crate::filters::Filters;

const KNOWN: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "builder",
];

/// Refuses filters that events do not have.
pub fn validate(filters: &Filters) -> Result<()> {
    filters.validate(KNOWN)
}

/// Whether an event meets all filters.
pub fn matches(filters: &Filters, event: &EventMessage) -> bool {
    let kind = event.typ.unwrap_or(Type::EMPTY);
    let action = event.action.as_deref().unwrap_or("");
    let attribute = |name: &str| {
        event
            .actor
            .as_ref()
            .and_then(|a| a.attributes.as_ref())
            .and_then(|a| a.get(name))
            .map(String::as_str)
    };
    // `exec_start: cmd` and `health_status: healthy` are also named by their first word.
    let bare = action.split_once(':').map_or(action, |(word, _)| word);
    (filters.exact("event", action) || filters.exact("event", bare))
        && filters.exact("type", kind.as_ref())
        && filters.exact(
            "scope",
            event.scope.map_or("", |s| {
                if s == bollard_stubs::models::EventMessageScopeEnum::SWARM {
                    "swarm"
                } else {
                    "local"
                }
            }),
        )
        && filters.labels("label", attribute)
        && object(filters, "container", Type::CONTAINER, kind, event)
        && object(filters, "volume", Type::VOLUME, kind, event)
        && object(filters, "network", Type::NETWORK, kind, event)
        && object(filters, "daemon", Type::DAEMON, kind, event)
        && object(filters, "plugin", Type::PLUGIN, kind, event)
        && object(filters, "service", Type::SERVICE, kind, event)
        && object(filters, "node", Type::NODE, kind, event)
        && object(filters, "secret", Type::SECRET, kind, event)
        && object(filters, "config", Type::CONFIG, kind, event)
        && image(filters, kind, event, attribute("image"))
}

/// By name or the beginning of the id, only events of that type.
fn object(filters: &Filters, name: &str, wanted: Type, kind: Type, event: &EventMessage) -> bool {
    if !filters.has(name) {
        return true;
    }
    kind == wanted && named(filters.get(name), event)
}

fn named(values: &[String], event: &EventMessage) -> bool {
    let Some(actor) = &event.actor else { return false };
    let id = actor.id.as_deref().unwrap_or("");
    let name = actor.attributes.as_ref().and_then(|a| a.get("name")).map(String::as_str);
    values
        .iter()
        .any(|v| id.starts_with(v.as_str()) || name == Some(v.strip_prefix('/').unwrap_or(v)))
}

/// Events of an image, and of containers made from it.
fn image(filters: &Filters, kind: Type, event: &EventMessage, image: Option<&str>) -> bool {
    if !filters.has("image") {
        return true;
    }
    let repository = |reference: &str| match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name.to_owned(),
        _ => reference.to_owned(),
    };
    let values = filters.get("image");
    let fits =
        |reference: &str| values.iter().any(|v| v == reference || *v == repository(reference));
    match kind {
        Type::IMAGE => {
            named(values, event)
                || event
                    .actor
                    .as_ref()
                    .and_then(|a| a.attributes.as_ref()?.get("name"))
                    .is_some_and(|n| fits(n))
        }
        Type::CONTAINER => image.is_some_and(fits),
        _ => false,
    }
}

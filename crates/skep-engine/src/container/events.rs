//! A container's events.

use std::collections::HashMap;

use bollard_stubs::models::{EventMessageScopeEnum as Scope, EventMessageTypeEnum as Type};

use super::cell::Container;
use crate::engine::Engine;

impl Engine {
    /// Tells that something happened to a container: its labels, image and name come along.
    pub(crate) fn container_event(&self, c: &Container, action: &str, extra: &[(&str, &str)]) {
        let (mut attributes, image, name) = c.read(|r| {
            let labels: HashMap<String, String> = r.config.labels.clone().unwrap_or_default();
            (labels, r.config.image.clone().unwrap_or_default(), r.name.clone())
        });
        attributes.insert("image".to_owned(), image);
        attributes.insert("name".to_owned(), name);
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.inner.events.publish(Type::CONTAINER, action, &c.id, attributes, Scope::LOCAL);
    }
}

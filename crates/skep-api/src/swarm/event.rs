use bollard_stubs::models::{EventMessageScopeEnum, EventMessageTypeEnum};

use crate::backend::Backend;

/// Tells listeners of `/events` of a change to a swarm object.
pub(crate) fn announce(
    app: &Backend,
    kind: EventMessageTypeEnum,
    action: &str,
    id: &str,
    name: &str,
) {
    let attributes = vec![("name".to_owned(), name.to_owned())];
    app.engine.publish_event(kind, action, id, attributes, EventMessageScopeEnum::SWARM);
}

//! From what a user typed to an object.

use std::sync::Arc;

use skep_control::Store;
use skep_types::{Config, ErrorKind, Network, Node, Secret, Service, Task};

use super::{ControlError, Result};

macro_rules! finders {
    ($($name:ident $what:literal $kind:ident $find:ident $all:ident |$object:ident, $reference:ident| $named:expr;)*) => {$(
        /// By id, name or unique id prefix.
        pub(crate) fn $name<'a>(store: &'a Store, reference: &str) -> Result<&'a Arc<$kind>> {
            if reference.is_empty() {
                return Err(ControlError::invalid(concat!("invalid ", $what, " name or id: it is empty")));
            }
            store.$find(reference).ok_or_else(|| {
                let fits = |$object: &&Arc<$kind>| {
                    let $reference = reference;
                    $named || $object.id.as_str().starts_with(reference)
                };
                missing($what, reference, store.$all().filter(fits).count())
            })
        }
    )*};
}

finders! {
    service "service" Service find_service services |o, r| o.spec.annotations.name == r;
    task "task" Task find_task tasks |o, r| o.name() == r;
    node "node" Node find_node nodes |o, r| o.description.hostname == r;
    network "network" Network find_network networks |o, r| o.spec.annotations.name == r;
    secret "secret" Secret find_secret secrets |o, r| o.spec.annotations.name == r;
    config "config" Config find_config configs |o, r| o.spec.annotations.name == r;
}

fn missing(what: &str, reference: &str, matches: usize) -> ControlError {
    if matches > 1 {
        let message = format!("{what} {reference} is ambiguous ({matches} matches found)");
        return ControlError::new(ErrorKind::Ambiguous, message);
    }
    ControlError::not_found(what, reference)
}

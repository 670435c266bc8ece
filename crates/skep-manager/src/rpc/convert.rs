//! Filters of the remote control API as ours.

use skep_proto::v1;
use skep_types::{LabelFilter, Version};

use crate::control::Filter;

pub(super) fn labels<M>(map: M) -> Vec<LabelFilter>
where
    M: IntoIterator<Item = (String, String)>,
{
    map.into_iter().map(|(key, value)| LabelFilter::of_swarm(&key, &value)).collect()
}

/// Filters that become one of ours, whatever they are of.
pub(super) trait Common {
    fn common(self) -> Filter;
}

macro_rules! named_filters {
    ($($module:ident)*) => {$(
        impl Common for v1::$module::Filters {
            fn common(self) -> Filter {
                let filters = self;
                Filter {
                    id_prefixes: filters.id_prefixes,
                    name_prefixes: filters.name_prefixes,
                    names: filters.names,
                    labels: labels(filters.labels),
                }
            }
        }
    )*};
}

named_filters! { list_networks_request list_secrets_request list_configs_request list_services_request }

pub(super) fn version(version: Option<v1::Version>) -> Version {
    version.map(Version::from).unwrap_or_default()
}

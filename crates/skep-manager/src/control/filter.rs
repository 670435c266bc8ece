use skep_control::list;
pub use skep_control::list::ModeFilter;
use skep_types::{NodeMembership, NodeRole};

/// What every kind of object can be selected by. Values of one field are alternatives, fields are
/// all required; an empty field selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Prefixes of ids (Docker's `id`).
    pub id_prefixes: Vec<String>,
    /// Prefixes of names (Docker's `name`).
    pub name_prefixes: Vec<String>,
    /// Whole names (Docker's `names` of secrets and configs).
    pub names: Vec<String>,
    /// Required labels; `None` asks for the key alone. All of them must match.
    pub labels: Vec<LabelFilter>,
}

/// `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    pub key: String,
    pub value: Option<String>,
}

impl LabelFilter {
    /// Splits at the first `=`. `key=` asks for the key alone, as in Docker.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) if !value.is_empty() => {
                Self { key: key.to_owned(), value: Some(value.to_owned()) }
            }
            Some((key, _)) => Self { key: key.to_owned(), value: None },
            None => Self { key: text.to_owned(), value: None },
        }
    }
}

fn labels(filters: &[LabelFilter]) -> list::Labels {
    filters.iter().map(|f| (f.key.clone(), f.value.clone().unwrap_or_default())).collect()
}

impl Filter {
    pub(super) fn list_labels(&self) -> list::Labels {
        labels(&self.labels)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFilter {
    pub common: Filter,
    pub modes: Vec<ModeFilter>,
}

/// Docker's three values of the `desired-state` filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredStateFilter {
    Running,
    Shutdown,
    Accepted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub common: Filter,
    /// References: id, name or unique id prefix. An unknown one is an error, as in Docker.
    pub services: Vec<String>,
    /// References, as above.
    pub nodes: Vec<String>,
    pub desired_states: Vec<DesiredStateFilter>,
    /// Only tasks made from their service's current spec (Docker's `_up-to-date`).
    pub up_to_date: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// `labels` are the engine's labels, as in Docker.
    pub common: Filter,
    /// Labels of the node's spec (Docker's `node.label`).
    pub node_labels: Vec<LabelFilter>,
    pub roles: Vec<NodeRole>,
    pub memberships: Vec<NodeMembership>,
}

impl From<Filter> for list::NamedFilter {
    fn from(filter: Filter) -> Self {
        let labels = filter.list_labels();
        Self {
            id_prefixes: filter.id_prefixes,
            names: filter.names,
            name_prefixes: filter.name_prefixes,
            labels,
        }
    }
}

impl From<ServiceFilter> for list::ServiceFilter {
    fn from(filter: ServiceFilter) -> Self {
        let labels = filter.common.list_labels();
        Self {
            id_prefixes: filter.common.id_prefixes,
            name_prefixes: filter.common.name_prefixes,
            labels,
            modes: filter.modes,
        }
    }
}

impl From<NodeFilter> for list::NodeFilter {
    fn from(filter: NodeFilter) -> Self {
        Self {
            engine_labels: filter.common.list_labels(),
            node_labels: labels(&filter.node_labels),
            id_prefixes: filter.common.id_prefixes,
            name_prefixes: filter.common.name_prefixes,
            roles: filter.roles,
            memberships: filter.memberships,
        }
    }
}

pub use skep_control::list::{Filter, ModeFilter, NodeFilter, ServiceFilter};

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

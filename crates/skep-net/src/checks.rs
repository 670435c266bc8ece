//! What the kernel and the host offer, and what is lost without it.

/// One thing that was looked at when the network started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name, such as `nftables`.
    pub feature: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// What was found, for people.
    pub detail: String,
    /// What does not work without it.
    pub disables: &'static str,
}

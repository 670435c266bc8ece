use crate::codec::Keyring;
use crate::names::NodeName;
use std::net::SocketAddr;
use std::time::Duration;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this life; must be new at every start.
    pub name: NodeName,
    /// The address at which others reach this node, UDP and TCP.
    pub advertise: SocketAddr,
    /// Keys; `None` speaks and takes plain text.
    pub keyring: Option<Keyring>,
    /// How fast things go.
    pub timing: Timing,
    /// How large things get.
    pub limits: Limits,
}

impl Config {
    /// A node with skep's timing and the usual limits.
    pub fn new(name: NodeName, advertise: SocketAddr, keyring: Option<Keyring>) -> Self {
        Self { name, advertise, keyring, timing: Timing::swift(), limits: Limits::default() }
    }
}

/// Intervals. They are each node's own business: nodes with different ones work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// One member is probed per interval.
    pub probe_interval: Duration,
    /// How long a direct ping may take before others are asked.
    pub probe_timeout: Duration,
    /// How many others are asked.
    pub indirect_checks: usize,
    /// Shortest suspicion, in probe intervals (times log10 of the cluster's size).
    pub suspicion_factor: u32,
    /// Longest suspicion, in shortest ones.
    pub suspicion_max_factor: u32,
    /// Between two rounds of gossip.
    pub gossip_interval: Duration,
    /// From a new message to its first round; messages of that time travel together.
    pub gossip_delay: Duration,
    /// How many nodes a round reaches.
    pub gossip_fanout: usize,
    /// A message is sent this often, times log10 of the cluster's size.
    pub retransmit_factor: u32,
    /// How long a dead node still gets gossip, so that a wrong verdict reaches it.
    pub gossip_to_dead: Duration,
    /// Between two exchanges of the whole membership; grows with clusters above 32 nodes.
    pub push_pull_interval: Duration,
    /// Between two exchanges of a network's whole tables.
    pub bulk_sync_interval: Duration,
    /// Between two attempts to reach bootstrap peers while none of them is a member.
    pub rejoin_interval: Duration,
    /// First wait before a failed node is tried again; grows with the age of the failure.
    pub reconnect_interval: Duration,
    /// How long a failed node is remembered and tried.
    pub forget_dead: Duration,
    /// How long tombstones, and hidden entries of failed nodes, are kept.
    pub reap_entry: Duration,
    /// How long a departure from a network is remembered.
    pub reap_network: Duration,
    /// A stream that took longer has failed.
    pub stream_timeout: Duration,
}

impl Timing {
    /// Docker's own intervals.
    pub const fn docker() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            suspicion_factor: 4,
            suspicion_max_factor: 6,
            gossip_interval: Duration::from_millis(200),
            gossip_delay: Duration::from_millis(200),
            gossip_fanout: 3,
            retransmit_factor: 4,
            gossip_to_dead: Duration::from_secs(30),
            push_pull_interval: Duration::from_secs(30),
            bulk_sync_interval: Duration::from_secs(30),
            rejoin_interval: Duration::from_secs(60),
            reconnect_interval: Duration::from_secs(1),
            forget_dead: Duration::from_secs(24 * 3600),
            reap_entry: Duration::from_secs(30 * 60),
            reap_network: Duration::from_secs(30 * 60 + 25),
            stream_timeout: Duration::from_secs(10),
        }
    }

    /// skep's own: a dead node is out within three seconds in a cluster of up to ten, and a change
    /// leaves its node after 10 ms, because a load balancer that learns late sends requests to
    /// tasks that are gone. A round every 200 ms, as Docker has it, carries only repetitions.
    pub const fn swift() -> Self {
        let docker = Self::docker();
        Self {
            probe_interval: Duration::from_millis(350),
            probe_timeout: Duration::from_millis(150),
            gossip_delay: Duration::from_millis(10),
            rejoin_interval: Duration::from_secs(5),
            ..docker
        }
    }

    /// Shortest and longest suspicion in a cluster of `nodes`.
    pub(crate) fn suspicion(&self, nodes: usize) -> (Duration, Duration) {
        let scale = (nodes.max(1) as f64).log10().max(1.0);
        let least = self.probe_interval.mul_f64(f64::from(self.suspicion_factor) * scale);
        (least, least * self.suspicion_max_factor)
    }

    /// How often one message is sent in a cluster of `nodes`.
    pub(crate) fn retransmits(&self, nodes: usize) -> u32 {
        let scale = ((nodes + 1) as f64).log10().ceil();
        self.retransmit_factor * (scale as u32).max(1)
    }

    /// Push-pull interval in a cluster of `nodes`.
    pub(crate) fn push_pull(&self, nodes: usize) -> Duration {
        if nodes <= 32 {
            return self.push_pull_interval;
        }
        let doublings = ((nodes as f64).log2() - 5.0).ceil() + 1.0;
        self.push_pull_interval.mul_f64(doublings)
    }

    /// Within this time after a node's death (or after the network heals, whichever is later) no
    /// connected node of a cluster of `nodes` shows an entry of the dead one: each probes every
    /// other in turn, at worst slowed nine times by its own bad health, then suspects it for the
    /// longest time. Typical are two probe intervals and the shortest suspicion.
    pub fn death_bound(&self, nodes: usize) -> Duration {
        let turns = u32::try_from(2 * nodes.max(1)).unwrap_or(u32::MAX);
        let probing = self.probe_interval.saturating_mul(turns).saturating_mul(9);
        probing.saturating_add(self.suspicion(nodes).1).saturating_add(self.gossip_interval)
    }
}

/// Upper bounds, against faulty or hostile senders. All of them are far above what a cluster of a
/// thousand nodes needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet sent, before encryption and checksum; bytes.
    pub packet: usize,
    /// Most that one packet may inflate to, all its parts together; bytes.
    pub packet_inflated: usize,
    /// Largest stream taken or sent; bytes. memberlist refuses more than 20 MiB.
    pub stream: usize,
    /// Most that a stream may inflate to; bytes.
    pub stream_inflated: usize,
    /// Most members, living and remembered.
    pub members: usize,
    /// Most networks that one node may be in.
    pub networks_per_node: usize,
    /// Most entries in all tables.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet: 1400,
            packet_inflated: 256 << 10,
            stream: 20 << 20,
            stream_inflated: 64 << 20,
            members: 10_000,
            networks_per_node: 10_000,
            entries: 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_field() {
        let timing = Timing::docker();
        let secs = |n| Duration::from_secs(n);
        assert_eq!(timing.suspicion(3), (secs(4), secs(24)));
        assert_eq!(timing.suspicion(100), (secs(8), secs(48)));
        assert_eq!(timing.retransmits(3), 4);
        assert_eq!(timing.retransmits(9), 4);
        assert_eq!(timing.retransmits(10), 8);
        assert_eq!(timing.push_pull(32), secs(30));
        assert_eq!(timing.push_pull(33), secs(60));
        assert_eq!(timing.push_pull(64), secs(60));
        assert_eq!(timing.push_pull(65), secs(90));
    }
}

//! What the loop counts, in Prometheus's text form.

use crate::apply::TrafficCounts;
use crate::plan::NsName;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds of namespaces as labels.
const KINDS: [&str; 5] = ["host", "overlay", "balancer", "ingress", "sandbox"];

/// Counters of one life of the daemon.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By kind of namespace, as [`KINDS`].
    repairs: [AtomicU64; KINDS.len()],
    failures: [AtomicU64; KINDS.len()],
    verifications: AtomicU64,
    signs: AtomicU64,
}

fn kind(name: &NsName) -> usize {
    match name {
        NsName::Host => 0,
        NsName::Overlay(_) => 1,
        NsName::Balancer(_) => 2,
        NsName::Ingress => 3,
        NsName::Sandbox(_) => 4,
    }
}

impl Metrics {
    /// Things in a namespace that were as planned, were not any more, and are again.
    pub fn repaired(&self, name: &NsName, count: usize) {
        add(self.repairs.get(kind(name)), count as u64);
    }

    /// A namespace could not be brought into its planned state.
    pub fn failed(&self, name: &NsName) {
        add(self.failures.get(kind(name)), 1);
    }

    /// A namespace was compared with its plan.
    pub fn verified(&self, namespaces: usize) {
        add(Some(&self.verifications), namespaces as u64);
    }

    /// The kernel told of a change that was not ours.
    pub fn sign(&self) {
        add(Some(&self.signs), 1);
    }

    /// The counters as text (Prometheus exposition format 0.0.4).
    pub fn render(&self, traffic: &TrafficCounts) -> String {
        let mut text = String::new();
        let labelled = [
            (
                "skep_net_repairs_total",
                "Links, addresses, routes, rules and settings that had gone from the kernel and were put back.",
                &self.repairs,
            ),
            (
                "skep_net_failures_total",
                "Attempts to bring a network namespace into its planned state that failed.",
                &self.failures,
            ),
        ];
        // Writing to a String cannot fail.
        for (name, help, values) in labelled {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for (kind, value) in KINDS.iter().zip(values) {
                let value = value.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}{{namespace=\"{kind}\"}} {value}");
            }
        }
        let plain = [
            (
                "skep_net_verifications_total",
                "Comparisons of a network namespace with its plan.",
                &self.verifications,
            ),
            (
                "skep_net_signs_total",
                "Changes of network namespaces by others that the kernel told of.",
                &self.signs,
            ),
        ];
        let plain = plain.map(|(name, help, value)| (name, help, value.load(Ordering::Relaxed)));
        let spoken = [
            (
                "skep_net_kernel_requests_total",
                "Netlink requests, dumps included.",
                traffic.requests,
            ),
            (
                "skep_net_kernel_dumps_total",
                "Netlink requests for everything of a kind.",
                traffic.dumps,
            ),
            (
                "skep_net_kernel_answers_total",
                "Netlink messages of the kernel's answers.",
                traffic.answers,
            ),
            ("skep_net_kernel_links_total", "Links in the kernel's answers.", traffic.links),
            ("skep_net_kernel_answer_bytes_total", "Bytes of the kernel's answers.", traffic.bytes),
            ("skep_net_nft_runs_total", "Runs of the nft program.", traffic.programs),
        ];
        for (name, help, value) in plain.into_iter().chain(spoken) {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n");
        }
        text
    }
}

fn add(counter: Option<&AtomicU64>, count: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_labelled_by_kind() {
        let metrics = Metrics::default();
        metrics.repaired(&NsName::Ingress, 2);
        metrics.failed(&NsName::Host);
        metrics.verified(3);
        metrics.sign();
        let traffic = TrafficCounts { links: 7, ..TrafficCounts::default() };
        let text = metrics.render(&traffic);
        for line in [
            "skep_net_repairs_total{namespace=\"ingress\"} 2",
            "skep_net_repairs_total{namespace=\"sandbox\"} 0",
            "skep_net_failures_total{namespace=\"host\"} 1",
            "skep_net_verifications_total 3",
            "skep_net_signs_total 1",
            "skep_net_kernel_links_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}

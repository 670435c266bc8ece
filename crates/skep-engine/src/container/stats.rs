//! `docker stats`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard_stubs::models::{
    ContainerBlkioStatEntry, ContainerBlkioStats, ContainerCpuStats, ContainerCpuUsage,
    ContainerMemoryStats, ContainerNetworkStats, ContainerPidsStats, ContainerStatsResponse,
    ContainerStorageStats, ContainerThrottlingData,
};
use futures::StreamExt;
use skep_container::cgroup::{BlkioEntry, Stats};

use super::cell::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::options::{StatsOptions, StatsStream};
use crate::util;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

impl Engine {
    /// What a container uses. Without `stream` one sample; with it one each second until the
    /// container is removed. A container that does not run reads as zero.
    ///
    /// # Errors
    /// `NoSuchContainer`.
    pub async fn container_stats(
        &self,
        container: &str,
        options: StatsOptions,
    ) -> Result<StatsStream> {
        let c = self.inner.containers.find(container)?;
        let this = self.clone();
        if !options.stream {
            let first = if options.one_shot { None } else { Some(this.sample(&c).await) };
            if first.is_some() {
                tokio::time::sleep(PERIOD).await;
            }
            let second = this.sample(&c).await;
            return Ok(futures::stream::iter([Ok(with_previous(second, first.as_ref()))]).boxed());
        }
        let state = (this, c, None::<ContainerStatsResponse>);
        let stream = futures::stream::unfold(state, |(this, c, previous)| async move {
            // The first sample comes at once, with nothing before it.
            if previous.is_some() {
                tokio::time::sleep(PERIOD).await;
            }
            if c.watch().borrow().removed {
                return None;
            }
            let sample = this.sample(&c).await;
            let shown = with_previous(sample.clone(), previous.as_ref());
            Some((Ok(shown), (this, c, Some(sample))))
        });
        Ok(stream.boxed())
    }

    async fn sample(&self, c: &Arc<Container>) -> ContainerStatsResponse {
        let record = c.record();
        let used = match c.handle().filter(|_| record.state.phase.is_running()) {
            Some(handle) => handle.stats().await.ok(),
            None => None,
        };
        let pid = record.state.pid;
        let of_host = record.network_mode() == "host";
        let (networks, system) = util::blocking(move || {
            (if pid > 0 && !of_host { networks(pid) } else { None }, system_cpu())
        })
        .await;
        let mut sample = ContainerStatsResponse {
            id: Some(record.id.clone()),
            name: Some(format!("/{}", record.name)),
            os_type: Some("linux".to_owned()),
            read: Some(
                used.as_ref()
                    .map_or_else(|| util::ZERO_TIME.to_owned(), |_| util::rfc3339(util::now())),
            ),
            num_procs: Some(0),
            storage_stats: Some(ContainerStorageStats::default()),
            preread: Some(util::ZERO_TIME.to_owned()),
            ..ContainerStatsResponse::default()
        };
        match used {
            Some(stats) => {
                sample.cpu_stats = Some(cpu(&stats, system));
                sample.memory_stats = Some(memory(&stats));
                sample.pids_stats = Some(ContainerPidsStats {
                    current: Some(stats.pids.current),
                    limit: stats.pids.limit.or(Some(0)),
                });
                sample.blkio_stats = Some(block(&stats));
                sample.networks = networks;
            }
            None => {
                sample.cpu_stats = Some(no_cpu());
                sample.memory_stats = Some(ContainerMemoryStats::default());
                sample.pids_stats = Some(ContainerPidsStats::default());
                sample.blkio_stats = Some(ContainerBlkioStats::default());
            }
        }
        sample
    }
}

fn with_previous(
    mut sample: ContainerStatsResponse,
    previous: Option<&ContainerStatsResponse>,
) -> ContainerStatsResponse {
    sample.precpu_stats = Some(previous.and_then(|p| p.cpu_stats.clone()).unwrap_or_else(no_cpu));
    if let Some(previous) = previous {
        sample.preread = previous.read.clone();
    }
    sample
}

fn no_cpu() -> ContainerCpuStats {
    ContainerCpuStats {
        cpu_usage: Some(ContainerCpuUsage {
            total_usage: Some(0),
            percpu_usage: None,
            usage_in_kernelmode: Some(0),
            usage_in_usermode: Some(0),
        }),
        system_cpu_usage: None,
        online_cpus: None,
        throttling_data: Some(ContainerThrottlingData {
            periods: Some(0),
            throttled_periods: Some(0),
            throttled_time: Some(0),
        }),
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

fn cpu(stats: &Stats, system: Option<u64>) -> ContainerCpuStats {
    let per_cpu: Vec<u64> = stats.cpu.per_cpu.iter().map(|d| nanos(*d)).collect();
    ContainerCpuStats {
        cpu_usage: Some(ContainerCpuUsage {
            total_usage: Some(nanos(stats.cpu.usage)),
            percpu_usage: (!per_cpu.is_empty()).then_some(per_cpu),
            usage_in_kernelmode: Some(nanos(stats.cpu.system)),
            usage_in_usermode: Some(nanos(stats.cpu.user)),
        }),
        system_cpu_usage: system,
        online_cpus: u32::try_from(crate::system::cpus()).ok(),
        throttling_data: Some(ContainerThrottlingData {
            periods: Some(stats.cpu.periods),
            throttled_periods: Some(stats.cpu.throttled_periods),
            throttled_time: Some(nanos(stats.cpu.throttled)),
        }),
    }
}

fn memory(stats: &Stats) -> ContainerMemoryStats {
    let m = &stats.memory;
    let mut details: HashMap<String, u64> = m.details.clone().into_iter().collect();
    // Clients subtract one of these from usage, by the version they believe in.
    details.insert("inactive_file".to_owned(), m.inactive_file);
    ContainerMemoryStats {
        usage: Some(m.usage),
        max_usage: m.max_usage,
        stats: Some(details),
        failcnt: (m.failures > 0).then_some(m.failures),
        limit: Some(
            m.limit.unwrap_or_else(crate::system::memory_total).min(crate::system::memory_total()),
        ),
        commitbytes: None,
        commitpeakbytes: None,
        privateworkingset: None,
    }
}

fn block(stats: &Stats) -> ContainerBlkioStats {
    let list = |entries: &[BlkioEntry]| {
        Some(
            entries
                .iter()
                .map(|e| ContainerBlkioStatEntry {
                    major: Some(e.major),
                    minor: Some(e.minor),
                    op: Some(e.operation.clone()),
                    value: Some(e.value),
                })
                .collect(),
        )
    };
    ContainerBlkioStats {
        io_service_bytes_recursive: list(&stats.blkio.bytes),
        io_serviced_recursive: list(&stats.blkio.operations),
        ..ContainerBlkioStats::default()
    }
}

/// Counters of a process's interfaces, loopback left out.
fn networks(pid: i32) -> Option<HashMap<String, ContainerNetworkStats>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    Some(parse_networks(&text))
}

fn parse_networks(text: &str) -> HashMap<String, ContainerNetworkStats> {
    let mut map = HashMap::new();
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let n: Vec<u64> = counters.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        if name.trim() == "lo" || n.len() < 12 {
            continue;
        }
        map.insert(
            name.trim().to_owned(),
            ContainerNetworkStats {
                rx_bytes: Some(n[0]),
                rx_packets: Some(n[1]),
                rx_errors: Some(n[2]),
                rx_dropped: Some(n[3]),
                tx_bytes: Some(n[8]),
                tx_packets: Some(n[9]),
                tx_errors: Some(n[10]),
                tx_dropped: Some(n[11]),
                endpoint_id: None,
                instance_id: None,
            },
        );
    }
    map
}

/// CPU time of the host in nanoseconds, idle included, guests not counted twice.
fn system_cpu() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find(|l| l.starts_with("cpu "))?;
    let ticks: u64 =
        line.split_whitespace().skip(1).take(8).filter_map(|w| w.parse::<u64>().ok()).sum();
    // Hundredths of a second.
    Some(ticks * 10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let map = parse_networks(text);
        assert_eq!(map.len(), 1);
        assert_eq!((map["eth0"].rx_bytes, map["eth0"].tx_dropped), (Some(10), Some(8)));
        assert!(system_cpu().unwrap() > 0);
    }
}

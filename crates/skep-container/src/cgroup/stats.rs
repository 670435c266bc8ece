//! What a container has used.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::CgroupError;
use super::group::{Cgroup, flat_value};
use super::layout::Version;

/// One reading. Parts whose controller this host lacks stay at their default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BlkioStats,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuStats {
    /// CPU time of all processes since creation.
    pub usage: Duration,
    pub user: Duration,
    pub system: Duration,
    /// By CPU; empty where only version 2 is mounted.
    pub per_cpu: Vec<Duration>,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryStats {
    /// Bytes, page cache included.
    pub usage: u64,
    /// Highest usage so far, in bytes.
    pub max_usage: Option<u64>,
    /// In bytes; `None`: no limit.
    pub limit: Option<u64>,
    /// How often usage hit the limit.
    pub failures: u64,
    /// Cache that could be dropped at once, in bytes; Docker's clients subtract it from usage.
    pub inactive_file: u64,
    /// The kernel's own breakdown (`memory.stat`), by the names of the version in use.
    pub details: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PidsStats {
    pub current: u64,
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlkioStats {
    pub bytes: Vec<BlkioEntry>,
    pub operations: Vec<BlkioEntry>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `read`, `write`, `discard`, `sync`, `async` or `total`.
    pub operation: String,
    pub value: u64,
}

impl Cgroup {
    /// Reads everything once. A group that does not exist reads as zero.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: self.cpu(),
            memory: self.memory(),
            pids: self.process_count(),
            blkio: self.blkio(),
        })
    }

    fn cpu(&self) -> CpuStats {
        let mut cpu = CpuStats::default();
        if let Some((version, dir)) = self.controller("cpu") {
            let stat = text(&dir, "cpu.stat");
            let value = |key| flat_value(&stat, key).unwrap_or(0);
            cpu.periods = value("nr_periods");
            cpu.throttled_periods = value("nr_throttled");
            match version {
                Version::V1 => cpu.throttled = Duration::from_nanos(value("throttled_time")),
                Version::V2 => {
                    cpu.throttled = Duration::from_micros(value("throttled_usec"));
                    cpu.usage = Duration::from_micros(value("usage_usec"));
                    cpu.user = Duration::from_micros(value("user_usec"));
                    cpu.system = Duration::from_micros(value("system_usec"));
                }
            }
        }
        if let Some((Version::V1, dir)) = self.controller("cpuacct") {
            cpu.usage = Duration::from_nanos(number(&dir, "cpuacct.usage").unwrap_or(0));
            cpu.user = Duration::from_nanos(number(&dir, "cpuacct.usage_user").unwrap_or(0));
            cpu.system = Duration::from_nanos(number(&dir, "cpuacct.usage_sys").unwrap_or(0));
            cpu.per_cpu = text(&dir, "cpuacct.usage_percpu")
                .split_whitespace()
                .filter_map(|n| n.parse().ok().map(Duration::from_nanos))
                .collect();
        }
        cpu
    }

    fn memory(&self) -> MemoryStats {
        let Some((version, dir)) = self.controller("memory") else { return MemoryStats::default() };
        let details: BTreeMap<String, u64> = text(&dir, "memory.stat")
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(' ')?;
                Some((key.to_owned(), value.parse().ok()?))
            })
            .collect();
        let detail = |key: &str| details.get(key).copied();
        match version {
            Version::V1 => MemoryStats {
                usage: number(&dir, "memory.usage_in_bytes").unwrap_or(0),
                max_usage: number(&dir, "memory.max_usage_in_bytes"),
                // Unlimited is the highest multiple of the page size, whatever that is here.
                limit: number(&dir, "memory.limit_in_bytes")
                    .filter(|&limit| limit < i64::MAX as u64 / 2),
                failures: number(&dir, "memory.failcnt").unwrap_or(0),
                inactive_file: detail("total_inactive_file").unwrap_or(0),
                details,
            },
            Version::V2 => MemoryStats {
                usage: number(&dir, "memory.current").unwrap_or(0),
                max_usage: number(&dir, "memory.peak"),
                limit: number(&dir, "memory.max"),
                failures: flat_value(&text(&dir, "memory.events"), "max").unwrap_or(0),
                inactive_file: detail("inactive_file").unwrap_or(0),
                details,
            },
        }
    }

    fn process_count(&self) -> PidsStats {
        let Some((_, dir)) = self.controller("pids") else { return PidsStats::default() };
        PidsStats {
            current: number(&dir, "pids.current").unwrap_or(0),
            limit: number(&dir, "pids.max"),
        }
    }

    fn blkio(&self) -> BlkioStats {
        match self.controller("blkio") {
            Some((Version::V1, dir)) => BlkioStats {
                bytes: v1_entries(&text(&dir, "blkio.throttle.io_service_bytes_recursive")),
                operations: v1_entries(&text(&dir, "blkio.throttle.io_serviced_recursive")),
            },
            Some((Version::V2, dir)) => v2_entries(&text(&dir, "io.stat")),
            None => BlkioStats::default(),
        }
    }
}

/// A file's text; empty if it is not there (controller off, group gone).
fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A file's number; `None` if missing or the word `max`.
fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file).trim().parse().ok()
}

/// Lines "8:0 Read 1024".
fn v1_entries(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (major, minor) = words.next()?.split_once(':')?;
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                operation: words.next()?.to_ascii_lowercase(),
                value: words.next()?.parse().ok()?,
            })
        })
        .collect()
}

/// Lines "8:0 rbytes=1024 wbytes=0 rios=1 wios=0 dbytes=0 dios=0".
fn v2_entries(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|w| w.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for word in words {
            let Some((key, Ok(value))) = word.split_once('=').map(|(k, v)| (k, v.parse())) else {
                continue;
            };
            let entry = |operation: &str| BlkioEntry {
                major,
                minor,
                operation: operation.to_owned(),
                value,
            };
            match key {
                "rbytes" => stats.bytes.push(entry("read")),
                "wbytes" => stats.bytes.push(entry("write")),
                "dbytes" => stats.bytes.push(entry("discard")),
                "rios" => stats.operations.push(entry("read")),
                "wios" => stats.operations.push(entry("write")),
                "dios" => stats.operations.push(entry("discard")),
                _ => {}
            }
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_block_formats() {
        let v1 = v1_entries("8:0 Read 1024\n8:0 Total 1024\nTotal 1024\n");
        assert_eq!(v1.len(), 2);
        assert_eq!((v1[0].major, v1[0].operation.as_str(), v1[0].value), (8, "read", 1024));
        let v2 = v2_entries("259:1 rbytes=4096 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n");
        assert_eq!(v2.bytes[0].value, 4096);
        assert_eq!(v2.operations[0].value, 3);
    }
}

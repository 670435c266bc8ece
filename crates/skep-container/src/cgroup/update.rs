//! Changing limits of a running container.

use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::CgroupError;
use super::group::{Cgroup, read, write};
use super::layout::Version;

impl Cgroup {
    /// Sets the limits that `resources` names (CPU, memory, process count, block weight) and leaves
    /// the others. The first failure ends it; what was set before stays.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        if let Some(memory) = resources.memory() {
            self.update_memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.update_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            let (_, dir) = self.need("pids")?;
            write(&dir.join("pids.max"), &limit(pids.limit()))?;
        }
        if let Some(weight) = resources.block_io().as_ref().and_then(|b| b.weight()) {
            match self.need("blkio")? {
                (Version::V1, dir) => {
                    let bfq = dir.join("blkio.bfq.weight");
                    let file = if bfq.exists() { bfq } else { dir.join("blkio.weight") };
                    write(&file, &weight.to_string())?;
                }
                (Version::V2, dir) => {
                    // 10–1000 to 1–10000, as the runtime specification's v2 conversion has it.
                    let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
                    write(&dir.join("io.weight"), &weight.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn update_cpu(&self, cpu: &LinuxCpu) -> Result<(), CgroupError> {
        if cpu.shares().is_some() || cpu.quota().is_some() || cpu.period().is_some() {
            let (version, dir) = self.need("cpu")?;
            match version {
                Version::V1 => {
                    if let Some(shares) = cpu.shares() {
                        write(&dir.join("cpu.shares"), &shares.to_string())?;
                    }
                    if let Some(period) = cpu.period() {
                        write(&dir.join("cpu.cfs_period_us"), &period.to_string())?;
                    }
                    if let Some(quota) = cpu.quota() {
                        write(&dir.join("cpu.cfs_quota_us"), &quota.to_string())?;
                    }
                }
                Version::V2 => {
                    if let Some(shares) = cpu.shares().filter(|&s| s > 0) {
                        write(&dir.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
                    }
                    if cpu.quota().is_some() || cpu.period().is_some() {
                        write(&dir.join("cpu.max"), &cpu_max(&dir, cpu)?)?;
                    }
                }
            }
        }
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value {
                write(&self.need("cpuset")?.1.join(file), value)?;
            }
        }
        Ok(())
    }

    fn update_memory(&self, memory: &LinuxMemory) -> Result<(), CgroupError> {
        let (version, dir) = self.need("memory")?;
        match version {
            Version::V1 => {
                let set_limit = |dir: &Path| match memory.limit() {
                    Some(bytes) => write(&dir.join("memory.limit_in_bytes"), &bytes.to_string()),
                    None => Ok(()),
                };
                let swap = dir.join("memory.memsw.limit_in_bytes");
                match memory.swap().filter(|_| swap.exists()) {
                    Some(total) => {
                        // The kernel wants memory ≤ memory+swap at every moment, so the order
                        // depends on whether the new memory limit is above the old total.
                        let now: i128 = read(&swap)?.trim().parse().unwrap_or(i128::from(i64::MAX));
                        let grows = total == -1 || i128::from(total) > now;
                        if grows {
                            write(&swap, &total.to_string())?;
                            set_limit(&dir)?;
                        } else {
                            set_limit(&dir)?;
                            write(&swap, &total.to_string())?;
                        }
                    }
                    None => set_limit(&dir)?,
                }
                if let Some(bytes) = memory.reservation() {
                    write(&dir.join("memory.soft_limit_in_bytes"), &bytes.to_string())?;
                }
            }
            Version::V2 => {
                if let Some(bytes) = memory.limit() {
                    write(&dir.join("memory.max"), &limit(bytes))?;
                }
                if let Some(total) = memory.swap() {
                    // Version 2 counts swap alone, the specification memory and swap together.
                    let swap = match (total, memory.limit()) {
                        (total, Some(memory)) if total >= 0 && memory >= 0 => {
                            (total - memory).max(0)
                        }
                        (total, _) => total,
                    };
                    write(&dir.join("memory.swap.max"), &limit(swap))?;
                }
                if let Some(bytes) = memory.reservation() {
                    write(&dir.join("memory.low"), &limit(bytes))?;
                }
            }
        }
        Ok(())
    }

    fn need(&self, controller: &'static str) -> Result<(Version, std::path::PathBuf), CgroupError> {
        self.controller(controller).ok_or(CgroupError::NoController { controller })
    }
}

/// Shares of 2–262144 to weights of 1–10000, by the conversion that OCI runtimes share.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// What to write into `cpu.max`, keeping the half that is not named.
fn cpu_max(dir: &Path, cpu: &LinuxCpu) -> Result<String, CgroupError> {
    let now = read(&dir.join("cpu.max"))?;
    let (quota, period) = now.trim().split_once(' ').unwrap_or(("max", "100000"));
    let quota = match cpu.quota() {
        Some(quota) if quota > 0 => quota.to_string(),
        Some(_) => "max".to_owned(),
        None => quota.to_owned(),
    };
    let period = cpu.period().map_or_else(|| period.to_owned(), |p| p.to_string());
    Ok(format!("{quota} {period}"))
}

/// A limit as version 2 (and pids) spells it: zero and less mean none.
fn limit(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_span_the_weights() {
        assert_eq!(
            (weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)),
            (1, 39, 10_000)
        );
    }
}

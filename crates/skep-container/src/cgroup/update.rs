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
            self.update_weight(weight)?;
        }
        Ok(())
    }

    /// Sets what libcontainer leaves wrong in a new group of version 2: it passes over "no swap at all",
    /// and counts block weights in 16 bits, which are too few.
    pub(crate) fn correct(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let unified = |controller| matches!(self.controller(controller), Some((Version::V2, _)));
        if let Some(memory) = resources.memory().as_ref().filter(|_| unified("memory")) {
            let dir = self.need("memory")?.1;
            set_swap(&dir, memory)?;
        }
        let weight = resources.block_io().as_ref().and_then(|b| b.weight());
        if let Some(weight) = weight.filter(|_| unified("blkio")) {
            self.update_weight(weight)?;
        }
        Ok(())
    }

    /// Block weights are 10–1000. The scheduler BFQ takes them as they are and has a file of its own.
    fn update_weight(&self, weight: u16) -> Result<(), CgroupError> {
        let (version, dir) = self.need("blkio")?;
        let (bfq, own) = match version {
            Version::V1 => ("blkio.bfq.weight", "blkio.weight"),
            Version::V2 => ("io.bfq.weight", "io.weight"),
        };
        if dir.join(bfq).exists() {
            return write(&dir.join(bfq), &weight.to_string());
        }
        let value = match version {
            Version::V1 => u64::from(weight),
            Version::V2 => io_weight(weight),
        };
        write(&dir.join(own), &value.to_string())
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
                set_swap(&dir, memory)?;
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

/// `memory.swap.max`. Version 2 counts swap alone, the specification memory and swap together.
fn set_swap(dir: &Path, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let Some(total) = memory.swap() else { return Ok(()) };
    let file = dir.join("memory.swap.max");
    let value = match (total, memory.limit()) {
        (total, _) if total < 0 => "max".to_owned(),
        (total, Some(memory)) if memory >= 0 => (total - memory).max(0).to_string(),
        (total, _) => limit(total),
    };
    // A kernel without swap has no such file, and nothing to forbid.
    if value == "0" && !file.exists() {
        return Ok(());
    }
    write(&file, &value)
}

/// Block weights of 10–1000 to 1–10000, as the runtime specification converts them for version 2.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
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
    use std::fs;

    use oci_spec::runtime::LinuxBlockIoBuilder;

    use super::*;
    use crate::cgroup::layout::Layout;

    #[test]
    fn shares_span_the_weights() {
        assert_eq!(
            (weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)),
            (1, 39, 10_000)
        );
        assert_eq!((io_weight(10), io_weight(300), io_weight(1000)), (1, 2930, 10_000));
    }

    /// A folder that looks like a group of version 2.
    struct Group {
        dir: tempfile::TempDir,
        group: Cgroup,
    }

    impl Group {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mount = format!("31 30 0:27 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
            let mut layout = Layout::parse(&mount);
            layout.set_available("cpu io memory pids");
            fs::create_dir(dir.path().join("c")).unwrap();
            for file in files {
                fs::write(dir.path().join("c").join(file), "").unwrap();
            }
            let group = Cgroup::within(layout.into(), Path::new("/c"));
            Self { dir, group }
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.dir.path().join("c").join(file)).unwrap()
        }
    }

    fn memory(limit: i64, swap: i64) -> LinuxResources {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit)).set_swap(Some(swap));
        let mut resources = LinuxResources::default();
        resources.set_devices(None).set_memory(Some(memory));
        resources
    }

    #[test]
    fn swap_is_what_memory_leaves_of_the_sum() {
        for (limit, total, swap) in [
            (64 << 20, 64 << 20, "0"),
            (64 << 20, 96 << 20, "33554432"),
            (64 << 20, -1, "max"),
            (-1, -1, "max"),
        ] {
            let corrected = Group::new(&["memory.swap.max"]);
            corrected.group.correct(&memory(limit, total)).unwrap();
            assert_eq!(corrected.read("memory.swap.max"), swap, "{limit} {total}");
            let updated = Group::new(&["memory.max", "memory.swap.max"]);
            updated.group.update(&memory(limit, total)).unwrap();
            assert_eq!(updated.read("memory.swap.max"), swap, "{limit} {total}");
        }
        // Where the kernel knows no swap there is none to forbid, but also none to give.
        let without = Group::new(&["memory.max"]);
        without.group.correct(&memory(64 << 20, 64 << 20)).unwrap();
        without.group.correct(&memory(64 << 20, 96 << 20)).unwrap_err();
    }

    #[test]
    fn block_weights_are_written_in_the_scale_of_their_file() {
        let mut resources = LinuxResources::default();
        let weight = LinuxBlockIoBuilder::default().weight(300u16).build().unwrap();
        resources.set_devices(None).set_block_io(Some(weight));
        for (files, file, value) in [
            (&["io.weight"][..], "io.weight", "2930"),
            (&["io.weight", "io.bfq.weight"][..], "io.bfq.weight", "300"),
        ] {
            let corrected = Group::new(files);
            corrected.group.correct(&resources).unwrap();
            assert_eq!(corrected.read(file), value);
            let updated = Group::new(files);
            updated.group.update(&resources).unwrap();
            assert_eq!(updated.read(file), value);
        }
    }
}

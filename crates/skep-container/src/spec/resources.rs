//! Resource limits by Docker's rules.

use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPidsBuilder, LinuxResources,
};

/// The scheduler's period that Docker uses for `--cpus`.
const PERIOD: Micros = Micros(100_000);

/// Microseconds, as the scheduler counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub u64);

/// Limits as Docker's users state them; what is `None` is not limited (or Docker's default).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In bytes.
    pub memory: Option<i64>,
    /// Memory and swap together, in bytes; −1: any amount of swap. Without it a memory limit allows
    /// as much swap again.
    pub memory_swap: Option<i64>,
    /// In bytes.
    pub memory_reservation: Option<i64>,
    /// 0–100.
    pub memory_swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
    /// `--cpus` in billionths.
    pub nano_cpus: Option<i64>,
    pub cpu_shares: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<Micros>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Zero and less: no limit.
    pub pids: Option<i64>,
    /// 10–1000.
    pub block_weight: Option<u16>,
}

impl Limits {
    /// As the spec wants it. With `devices` for a new container, without for an update.
    pub fn to_spec(&self, devices: Option<Vec<LinuxDeviceCgroup>>) -> LinuxResources {
        let mut resources = LinuxResources::default();
        resources
            .set_devices(devices)
            .set_memory(self.memory())
            .set_cpu(self.cpu())
            .set_pids(self.pids.and_then(|limit| {
                LinuxPidsBuilder::default().limit(if limit > 0 { limit } else { -1 }).build().ok()
            }))
            .set_block_io(
                self.block_weight
                    .and_then(|w| LinuxBlockIoBuilder::default().weight(w).build().ok()),
            );
        resources
    }

    fn memory(&self) -> Option<LinuxMemory> {
        let mut memory = LinuxMemory::default();
        let swap = match (self.memory, self.memory_swap) {
            (_, Some(swap)) => Some(swap),
            (Some(limit), None) if limit > 0 => Some(limit.saturating_mul(2)),
            _ => None,
        };
        memory
            .set_limit(self.memory)
            .set_swap(swap)
            .set_reservation(self.memory_reservation)
            .set_swappiness(self.memory_swappiness)
            .set_disable_oom_killer(self.disable_oom_killer);
        (memory != LinuxMemory::default()).then_some(memory)
    }

    fn cpu(&self) -> Option<LinuxCpu> {
        let mut cpu = LinuxCpu::default();
        let (quota, period) = match self.nano_cpus {
            Some(nano) => {
                let quota = i128::from(nano) * i128::from(PERIOD.0) / 1_000_000_000;
                (i64::try_from(quota).ok(), Some(PERIOD))
            }
            None => (self.cpu_quota, self.cpu_period),
        };
        cpu.set_shares(self.cpu_shares)
            .set_quota(quota)
            .set_period(period.map(|p| p.0))
            .set_cpus(self.cpuset_cpus.clone())
            .set_mems(self.cpuset_mems.clone());
        (cpu != LinuxCpu::default()).then_some(cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_arithmetic() {
        let limits = Limits {
            memory: Some(100),
            nano_cpus: Some(1_500_000_000),
            pids: Some(0),
            ..Limits::default()
        };
        let spec = limits.to_spec(None);
        assert_eq!(spec.memory().as_ref().and_then(|m| m.swap()), Some(200));
        let cpu = spec.cpu().clone().expect("cpu");
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(spec.pids().as_ref().map(|p| p.limit()), Some(-1));
        let nothing = Limits::default().to_spec(None);
        assert!(nothing.memory().is_none() && nothing.cpu().is_none() && nothing.pids().is_none());
    }
}

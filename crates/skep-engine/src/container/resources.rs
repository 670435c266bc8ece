//! Limits in the OCI's shape.

use std::os::unix::fs::MetadataExt;

use bollard_stubs::models::{HostConfig, ResourcesBlkioWeightDevice, ThrottleDevice};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxMemory, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use crate::error::{EngineError, Result};

/// Docker's CPU period in microseconds, for `--cpus`.
const PERIOD: i64 = 100_000;

/// All limits of a container but its devices. What is not limited is not named.
///
/// # Errors
/// `Invalid` for block devices that are none.
pub fn resources(host: &HostConfig) -> Result<LinuxResources> {
    let mut all = LinuxResources::default();
    let positive = |v: Option<i64>| v.filter(|v| *v > 0);
    let unsigned = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);

    let mut memory = LinuxMemory::default();
    memory
        .set_limit(positive(host.memory))
        .set_reservation(positive(host.memory_reservation))
        .set_swap(host.memory_swap.filter(|v| *v != 0))
        .set_swappiness(host.memory_swappiness.and_then(|v| u64::try_from(v).ok()))
        .set_disable_oom_killer(host.oom_kill_disable.filter(|v| *v));
    if memory != LinuxMemory::default() {
        all.set_memory(Some(memory));
    }

    let mut cpu = LinuxCpu::default();
    let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    match positive(host.nano_cpus) {
        Some(nano) => {
            cpu.set_period(u64::try_from(PERIOD).ok())
                .set_quota(Some(nano.saturating_mul(PERIOD) / 1_000_000_000));
        }
        None => {
            cpu.set_period(unsigned(host.cpu_period)).set_quota(host.cpu_quota.filter(|q| *q != 0));
        }
    }
    cpu.set_shares(unsigned(host.cpu_shares))
        .set_cpus(text(&host.cpuset_cpus))
        .set_mems(text(&host.cpuset_mems))
        .set_realtime_period(unsigned(host.cpu_realtime_period))
        .set_realtime_runtime(positive(host.cpu_realtime_runtime));
    if cpu != LinuxCpu::default() {
        all.set_cpu(Some(cpu));
    }

    if let Some(limit) = host.pids_limit.filter(|l| *l != 0) {
        all.set_pids(LinuxPidsBuilder::default().limit(limit).build().ok());
    }

    let mut block = LinuxBlockIo::default();
    block
        .set_weight(host.blkio_weight.filter(|w| *w != 0))
        .set_weight_device(weights(host.blkio_weight_device.as_deref())?)
        .set_throttle_read_bps_device(throttles(host.blkio_device_read_bps.as_deref())?)
        .set_throttle_write_bps_device(throttles(host.blkio_device_write_bps.as_deref())?)
        .set_throttle_read_iops_device(throttles(host.blkio_device_read_iops.as_deref())?)
        .set_throttle_write_iops_device(throttles(host.blkio_device_write_iops.as_deref())?);
    if block != LinuxBlockIo::default() {
        all.set_block_io(Some(block));
    }
    Ok(all)
}

fn device(path: &str) -> Result<(i64, i64)> {
    let meta = std::fs::metadata(path)
        .map_err(|e| EngineError::Invalid(format!("cannot use block device {path:?}: {e}")))?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok((number(major(meta.rdev())), number(minor(meta.rdev()))))
}

fn weights(list: Option<&[ResourcesBlkioWeightDevice]>) -> Result<Option<Vec<LinuxWeightDevice>>> {
    let mut out = Vec::new();
    for entry in list.unwrap_or_default() {
        let (major, minor) = device(entry.path.as_deref().unwrap_or(""))?;
        let weight =
            entry.weight.and_then(|w| u16::try_from(w).ok()).filter(|w| (10..=1000).contains(w));
        let weight = weight
            .ok_or_else(|| EngineError::invalid("Range of blkio weight is from 10 to 1000"))?;
        out.extend(
            LinuxWeightDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .weight(weight)
                .build()
                .ok(),
        );
    }
    Ok((!out.is_empty()).then_some(out))
}

fn throttles(list: Option<&[ThrottleDevice]>) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    let mut out = Vec::new();
    for entry in list.unwrap_or_default() {
        let (major, minor) = device(entry.path.as_deref().unwrap_or(""))?;
        let rate = entry.rate.and_then(|r| u64::try_from(r).ok());
        let rate =
            rate.ok_or_else(|| EngineError::invalid("invalid throttle rate: must be positive"))?;
        out.extend(
            LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build().ok(),
        );
    }
    Ok((!out.is_empty()).then_some(out))
}

/// Reads a `--device-cgroup-rule` such as `c 42:* rmw`.
///
/// # Errors
/// `Invalid` for others.
pub fn device_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad = || EngineError::Invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(bad()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(bad());
    }
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    if major != "*" {
        rule = rule.major(major.parse::<u32>().map(i64::from).map_err(|_| bad())?);
    }
    if minor != "*" {
        rule = rule.minor(minor.parse::<u32>().map(i64::from).map_err(|_| bad())?);
    }
    rule.build().map_err(|e| EngineError::system("could not build a device rule", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let host = HostConfig {
            memory: Some(64 << 20),
            memory_swap: Some(-1),
            nano_cpus: Some(1_500_000_000),
            pids_limit: Some(10),
            ..Default::default()
        };
        let all = resources(&host).unwrap();
        let cpu = all.cpu().clone().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
        assert_eq!(all.memory().as_ref().unwrap().swap(), Some(-1));
        assert_eq!(all.pids().as_ref().unwrap().limit(), 10);
        assert_eq!(resources(&HostConfig::default()).unwrap(), LinuxResources::default());
    }

    #[test]
    fn rules() {
        let rule = device_rule("c 42:* rmw").unwrap();
        assert_eq!((rule.major(), rule.minor()), (Some(42), None));
        for bad in ["", "c 42 r", "x 1:2 r", "c a:2 r", "c 1:2 q", "c 1:2 "] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}

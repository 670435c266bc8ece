//! What this host offers: each missing kernel feature or right is reported at start together with what
//! does not work without it.

use std::path::Path;

use skep_container::cgroup::Layout;
use skep_net::Check;

/// Looks at rights, file systems and control groups. The network's own checks are
/// [`skep_net::Net::checks`].
pub fn host() -> Vec<Check> {
    let file_systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mut checks = vec![
        capability(21, "CAP_SYS_ADMIN", "everything: namespaces and mounts cannot be made"),
        capability(12, "CAP_NET_ADMIN", "all networks but `host` and `none`"),
        capability(24, "CAP_SYS_RESOURCE", "raised hard limits (--ulimit) and lowered OOM scores"),
        capability(0, "CAP_CHOWN", "images whose files have several owners"),
        Check {
            feature: "overlayfs",
            available: file_systems.lines().any(|line| line.ends_with("\toverlay")),
            detail: "overlay in /proc/filesystems".to_owned(),
            disables: "everything: containers have no root file system",
        },
        Check {
            feature: "seccomp",
            available: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            detail: "/proc/sys/kernel/seccomp".to_owned(),
            disables: "the default system call filter of containers",
        },
    ];
    let table = [
        ("memory", "limits and statistics of memory"),
        ("cpu", "limits of CPU time"),
        ("cpuset", "--cpuset-cpus and --cpuset-mems"),
        ("pids", "--pids-limit"),
        ("devices", "the device allow-list of containers"),
        ("freezer", "docker pause"),
        ("blkio", "limits and statistics of block devices"),
    ];
    let groups = Layout::host();
    let trouble = groups.trouble();
    checks.push(Check {
        feature: "control groups",
        available: trouble.is_none(),
        detail: trouble.unwrap_or_default(),
        disables: "everything: containers cannot be started",
    });
    checks.extend(table.map(|(controller, disables)| Check {
        feature: controller,
        available: groups.controller(controller).is_some(),
        detail: "control group controller".to_owned(),
        disables,
    }));
    checks
}

/// True where the effective capabilities of this process have the bit.
fn capability(bit: u32, feature: &'static str, disables: &'static str) -> Check {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    Check {
        feature,
        available: effective >> bit & 1 == 1,
        detail: "capability of the daemon".to_owned(),
        disables,
    }
}

//! What is mounted in every container, and what is hidden.

use oci_spec::runtime::Mount;

pub use skep_types::defaults::SHM_SIZE as DEFAULT_SHM_SIZE;

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&o| o.to_owned()).collect()));
    mount
}

/// Docker's mounts: /proc, /dev, /dev/pts, /sys and control groups read only, /dev/mqueue, and
/// /dev/shm of `shm_size` bytes (leave that one out when the container shares another's IPC namespace:
/// then bind the other's).
pub fn default_mounts(shm_size: u64) -> Vec<Mount> {
    mounts("ro", shm_size)
}

/// The same for privileged containers: /sys and control groups writable.
pub fn privileged_mounts(shm_size: u64) -> Vec<Mount> {
    mounts("rw", shm_size)
}

fn mounts(access: &str, shm_size: u64) -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={shm_size}")],
        ),
    ]
}

/// Paths that show nothing in an unprivileged container.
pub fn masked_paths() -> Vec<String> {
    [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Paths that cannot be written in an unprivileged container.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        .map(str::to_owned)
        .to_vec()
}

//! Device nodes and who may use which device.
//!
//! The nodes every container has (/dev/null and its like) are made by libcontainer itself.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// A host device cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("error gathering device information while adding custom device {path:?}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "error gathering device information while adding custom device {path:?}: not a device node"
    )]
    NotADevice { path: PathBuf },
    #[error("invalid device permissions {text:?}: only r, w and m")]
    Permissions { text: String },
    #[error("could not describe device {path}")]
    Build {
        path: PathBuf,
        #[source]
        source: oci_spec::OciSpecError,
    },
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    number: Option<(i64, Option<i64>)>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some((major, minor)) = number {
        rule = rule.major(major);
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
    }
    rule.build().unwrap_or_default()
}

/// Docker's rules: nothing but making nodes, and the harmless character devices.
pub fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, B, C};
    let mut rules =
        vec![rule(false, A, None, "rwm"), rule(true, C, None, "m"), rule(true, B, None, "m")];
    // null, zero, full, random, urandom, tty, console, ptmx; all of pts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, C, Some((major, Some(minor))), "rwm"));
    }
    rules.push(rule(true, C, Some((136, None)), "rwm"));
    rules
}

/// Everything, for privileged containers.
pub fn privileged_device_rules() -> Vec<LinuxDeviceCgroup> {
    vec![rule(true, LinuxDeviceType::A, None, "rwm")]
}

/// `--device`: the host's device at `host` (links are followed; a directory gives all devices in it)
/// as `container`, usable as `permissions` say (of `rwm`).
pub fn device(
    host: &Path,
    container: &Path,
    permissions: &str,
) -> Result<Vec<(LinuxDevice, LinuxDeviceCgroup)>, DeviceError> {
    if permissions.is_empty() || !permissions.chars().all(|c| "rwm".contains(c)) {
        return Err(DeviceError::Permissions { text: permissions.to_owned() });
    }
    let look = |source| DeviceError::Look { path: host.to_owned(), source };
    if !fs::metadata(host).map_err(look)?.is_dir() {
        return Ok(vec![describe(host, container, permissions)?]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(host).map_err(look)? {
        let entry = entry.map_err(look)?;
        match device(&entry.path(), &container.join(entry.file_name()), permissions) {
            Ok(inner) => found.extend(inner),
            // Other files among the devices are not asked for, and one that has just gone is none.
            Err(DeviceError::NotADevice { .. } | DeviceError::Look { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// All devices below the host's /dev, for privileged containers; terminals and what the container has
/// of its own left out.
pub fn host_devices() -> Result<Vec<LinuxDevice>, DeviceError> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found)?;
    Ok(found)
}

fn collect(dir: &Path, found: &mut Vec<LinuxDevice>) -> Result<(), DeviceError> {
    const OWN_DIRS: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", "hugepages"];
    const OWN_NODES: [&str; 8] =
        ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
    let look = |source| DeviceError::Look { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(look)? {
        let entry = entry.map_err(look)?;
        let (name, path) = (entry.file_name(), entry.path());
        let Ok(kind) = entry.file_type() else { continue };
        let is = |list: &[&str]| list.iter().any(|&own| name == own);
        if kind.is_dir() {
            if !is(&OWN_DIRS) {
                collect(&path, found)?;
            }
        } else if (kind.is_char_device() || kind.is_block_device())
            && !(dir == Path::new("/dev") && is(&OWN_NODES))
        {
            match describe(&path, &path, "rwm") {
                Ok((device, _)) => found.push(device),
                Err(DeviceError::Look { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn describe(
    host: &Path,
    container: &Path,
    permissions: &str,
) -> Result<(LinuxDevice, LinuxDeviceCgroup), DeviceError> {
    let meta =
        fs::metadata(host).map_err(|source| DeviceError::Look { path: host.to_owned(), source })?;
    let kind = match meta.file_type() {
        t if t.is_char_device() => LinuxDeviceType::C,
        t if t.is_block_device() => LinuxDeviceType::B,
        _ => return Err(DeviceError::NotADevice { path: host.to_owned() }),
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (major, minor) = (number(major(meta.rdev())), number(minor(meta.rdev())));
    let device = LinuxDeviceBuilder::default()
        .path(container)
        .typ(kind)
        .major(major)
        .minor(minor)
        .file_mode(meta.mode() & 0o7777)
        .uid(meta.uid())
        .gid(meta.gid())
        .build()
        .map_err(|source| DeviceError::Build { path: host.to_owned(), source })?;
    Ok((device, rule(true, kind, Some((major, Some(minor))), permissions)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_described_and_a_file_is_not() {
        let found =
            device(Path::new("/dev/null"), Path::new("/dev/nothing"), "rw").expect("device");
        let (node, rule) = &found[0];
        assert_eq!(
            (node.path().as_path(), node.major(), node.minor()),
            (Path::new("/dev/nothing"), 1, 3)
        );
        assert_eq!(rule.access().as_deref(), Some("rw"));
        assert!(matches!(
            device(Path::new("/proc/version"), Path::new("/x"), "r"),
            Err(DeviceError::NotADevice { .. })
        ));
        assert!(matches!(
            device(Path::new("/dev/null"), Path::new("/x"), "rx"),
            Err(DeviceError::Permissions { .. })
        ));
    }
}

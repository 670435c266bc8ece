use std::collections::BTreeSet;

use super::{Malformed, MountFault, Text};
use crate::{Mount, MountType, TmpfsOptions};

/// Checks all `--mount`s of one container.
///
/// # Errors
/// As [`mount`], and [`Malformed::DuplicateMount`].
pub fn mounts(mounts: &[Mount], kind: Text) -> Result<(), Malformed> {
    let mut targets = BTreeSet::new();
    for one in mounts {
        mount(one, kind)?;
        let target = clean(&one.target);
        if targets.contains(&target) {
            return Err(Malformed::DuplicateMount { target });
        }
        targets.insert(target);
    }
    Ok(())
}

/// Checks one `--mount`. Whether the source exists is another question.
///
/// # Errors
/// [`Malformed::Mount`], [`Malformed::MountKind`], or a kind of [`Malformed`] about volumes.
pub fn mount(mount: &Mount, kind: Text) -> Result<(), Malformed> {
    if matches!(mount.kind, MountType::Image | MountType::Npipe | MountType::Cluster) {
        return Err(Malformed::MountKind { kind: mount.kind });
    }
    fields(mount, kind).map_err(|fault| Malformed::Mount { kind: mount.kind, fault })?;
    let Some(options) = mount.volume_options.as_ref() else { return named_volume(mount, kind) };
    if let Some(driver) = &options.driver_config
        && matches!(driver.name.as_str(), "" | "local")
        && !driver.options.values().any(|value| kind.is_open(value))
    {
        volume_options(&driver.options)?;
    }
    named_volume(mount, kind)
}

fn named_volume(mount: &Mount, kind: Text) -> Result<(), Malformed> {
    let named = mount.kind == MountType::Volume && !mount.source.is_empty();
    if named && !kind.is_open(&mount.source) { volume_name(&mount.source) } else { Ok(()) }
}

fn fields(mount: &Mount, kind: Text) -> Result<(), MountFault> {
    if mount.target.is_empty() {
        return Err(MountFault::Empty { field: "Target" });
    }
    if !kind.is_open(&mount.target) {
        destination(&mount.target)?;
    }
    let unexpected = |given: bool, field| {
        if given { Err(MountFault::Unexpected { field }) } else { Ok(()) }
    };
    unexpected(mount.kind != MountType::Bind && mount.bind_options.is_some(), "BindOptions")?;
    unexpected(mount.kind != MountType::Volume && mount.volume_options.is_some(), "VolumeOptions")?;
    unexpected(mount.kind != MountType::Tmpfs && mount.tmpfs_options.is_some(), "TmpfsOptions")?;
    match mount.kind {
        MountType::Bind => bind(mount, kind),
        MountType::Volume => {
            let path = mount.volume_options.as_ref().map_or("", |o| o.subpath.as_str());
            let escapes = path.starts_with('/') || path.split('/').any(|part| part == "..");
            if escapes { Err(MountFault::Subpath { path: path.to_owned() }) } else { Ok(()) }
        }
        MountType::Tmpfs => {
            unexpected(!mount.source.is_empty(), "Source")?;
            mount.tmpfs_options.as_ref().map_or(Ok(()), |options| tmpfs_words(options).map(drop))
        }
        MountType::Image | MountType::Npipe | MountType::Cluster => Ok(()),
    }
}

fn bind(mount: &Mount, kind: Text) -> Result<(), MountFault> {
    if mount.source.is_empty() {
        return Err(MountFault::Empty { field: "Source" });
    }
    if !mount.source.starts_with('/') && !kind.is_open(&mount.source) {
        return Err(MountFault::Relative { path: mount.source.clone() });
    }
    let Some(options) = &mount.bind_options else { return Ok(()) };
    if options.read_only_force_recursive && !mount.read_only {
        return Err(MountFault::ForceRecursiveWritable);
    }
    let partly = options.read_only_non_recursive || options.non_recursive;
    if options.read_only_force_recursive && partly {
        return Err(MountFault::ForceRecursiveConflict);
    }
    Ok(())
}

/// The kernel's mount options for a tmpfs with these settings.
///
/// # Errors
/// One of the `Tmpfs…` kinds of [`MountFault`].
pub fn tmpfs_words(options: &TmpfsOptions) -> Result<Vec<String>, MountFault> {
    let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    match options.size_bytes {
        0 => {}
        size if size < 0 => return Err(MountFault::TmpfsSize { size }),
        size => words.push(format!("size={size}")),
    }
    match options.mode {
        0 => {}
        mode if mode > 0o7777 => return Err(MountFault::TmpfsMode { mode }),
        mode => words.push(format!("mode={mode:o}")),
    }
    for option in &options.options {
        match option.as_slice() {
            [word] if word == "exec" => words.retain(|w| w != "noexec"),
            [word] if word == "noexec" => {}
            other => return Err(MountFault::TmpfsOption { option: other.join("=") }),
        }
    }
    Ok(words)
}

/// Checks a path in the container and gives it without `.`, `..` and double slashes.
///
/// # Errors
/// [`MountFault::Relative`], [`MountFault::Root`], [`MountFault::InProc`].
pub fn destination(path: &str) -> Result<String, MountFault> {
    if !path.starts_with('/') {
        return Err(MountFault::Relative { path: path.to_owned() });
    }
    match clean(path) {
        path if path == "/" => Err(MountFault::Root),
        path if path == "/proc" || path.starts_with("/proc/") => Err(MountFault::InProc { path }),
        path => Ok(path),
    }
}

/// A path without `.`, `..` and double slashes, by text alone.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Checks the name of a volume of the local driver.
///
/// # Errors
/// [`Malformed::ShortVolumeName`], [`Malformed::VolumeName`].
pub fn volume_name(name: &str) -> Result<(), Malformed> {
    if name.len() == 1 {
        return Err(Malformed::ShortVolumeName);
    }
    let mut bytes = name.bytes();
    let ok = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && name.len() <= 255;
    if ok { Ok(()) } else { Err(Malformed::VolumeName { name: name.to_owned() }) }
}

/// Checks options of a volume of the local driver: unknown ones, and incomplete ones.
///
/// # Errors
/// One of the `VolumeOption…` kinds of [`Malformed`], or [`Malformed::VolumeSize`].
pub fn volume_options<'a>(
    options: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Malformed> {
    let (mut any, mut device, mut kind, mut size) = (false, false, false, false);
    for (name, value) in options {
        let given = !value.is_empty();
        any |= given;
        match name.as_str() {
            "type" => kind = given,
            "device" => device = given,
            "o" => {}
            "size" => size = true,
            _ => return Err(Malformed::VolumeOption { name: name.clone() }),
        }
    }
    match () {
        () if size => Err(Malformed::VolumeSize),
        () if any && !device => Err(Malformed::VolumeOptionMissing { name: "device" }),
        () if device && !kind => Err(Malformed::VolumeOptionMissing { name: "type" }),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindOptions, Driver, StringMap, VolumeOptions};

    fn of(kind: MountType, source: &str, target: &str) -> Mount {
        Mount { kind, source: source.into(), target: target.into(), ..Mount::default() }
    }

    #[test]
    fn single_mounts() {
        use MountType::{Bind, Npipe, Tmpfs, Volume};
        let tmpfs = |options| Mount { tmpfs_options: Some(options), ..of(Tmpfs, "", "/t") };
        let options = |pairs: &[(&str, &str)]| VolumeOptions {
            driver_config: Some(Driver {
                name: String::new(),
                options: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            }),
            ..Default::default()
        };
        for good in [
            of(Bind, "/a", "/b"),
            of(Volume, "", "/b"),
            of(Volume, "data", "/b"),
            tmpfs(TmpfsOptions { size_bytes: 4096, mode: 0o700, ..Default::default() }),
        ] {
            mount(&good, Text::Plain).unwrap();
        }
        for (bad, words) in [
            (of(Bind, "/a", ""), "type \"bind\": field Target must not be empty"),
            (of(Bind, "/a", "b"), "'b' mount path must be absolute"),
            (of(Bind, "", "/b"), "field Source must not be empty"),
            (of(Bind, "a", "/b"), "'a' mount path must be absolute"),
            (of(Bind, "/a", "/x/.."), "destination can't be '/'"),
            (of(Bind, "/a", "/proc/sys"), "\"/proc/sys\" cannot be mounted"),
            (of(Tmpfs, "x", "/b"), "type \"tmpfs\": field Source must not be specified"),
            (of(Npipe, "x", "/b"), "mount type \"npipe\" is not supported"),
            (of(Volume, "a/b", "/b"), "\"a/b\" includes invalid characters"),
            (of(Volume, "{{.Task.Slot}}", "/b"), "includes invalid characters"),
            (
                Mount { bind_options: Some(BindOptions::default()), ..of(Volume, "a1", "/b") },
                "field BindOptions must not be specified",
            ),
            (
                Mount {
                    volume_options: Some(VolumeOptions {
                        subpath: "../x".into(),
                        ..Default::default()
                    }),
                    ..of(Volume, "a1", "/b")
                },
                "\"../x\"",
            ),
            (
                Mount { volume_options: Some(options(&[("foo", "x")])), ..of(Volume, "a1", "/b") },
                "invalid option: \"foo\"",
            ),
            (tmpfs(TmpfsOptions { size_bytes: -1, ..Default::default() }), "tmpfs size: -1"),
            (tmpfs(TmpfsOptions { mode: 0o10000, ..Default::default() }), "mode: 10000"),
            (
                tmpfs(TmpfsOptions {
                    options: vec![vec!["a".into(), "b".into()]],
                    ..Default::default()
                }),
                "option: a=b",
            ),
        ] {
            let refused = mount(&bad, Text::Plain).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        for open in [
            of(Volume, "{{.Task.Slot}}", "/b"),
            of(Bind, "{{.Node.Hostname}}", "{{.Service.Name}}"),
        ] {
            mount(&open, Text::Template).unwrap();
        }
    }

    #[test]
    fn targets_differ() {
        let twice = [of(MountType::Tmpfs, "", "/x"), of(MountType::Tmpfs, "", "/y/../x/")];
        let refused = mounts(&twice, Text::Plain).unwrap_err().to_string();
        assert_eq!(refused, "Duplicate mount point: /x");
    }

    #[test]
    fn options_of_volumes() {
        let options = |pairs: &[(&str, &str)]| -> StringMap {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        volume_options(&options(&[])).unwrap();
        let whole = options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]);
        volume_options(&whole).unwrap();
        for bad in [&[("o", "bind")][..], &[("device", "/x")], &[("foo", "x")], &[("size", "1m")]] {
            assert!(volume_options(&options(bad)).is_err(), "{bad:?}");
        }
    }
}

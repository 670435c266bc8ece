//! What a container mounts besides its root: `-v`, `--mount`, `--volumes-from`, `VOLUME`, `--tmpfs`,
//! read into one list. Nothing here touches the disk.

use std::collections::HashMap;

use bollard_stubs::models::{Mount as ApiMount, MountPoint};
use serde::{Deserialize, Serialize};
use skep_types::check::{self, Malformed, Text, clean};
use skep_types::{Mount, MountType};

use crate::error::{EngineError, Result};

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    #[default]
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

impl MountKind {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountEntry {
    /// What it shows.
    pub kind: MountKind,
    /// Host path of a bind; for volumes where it is mounted on the host, filled in at create.
    pub source: String,
    /// Volume name; empty for a volume still to be made under a random name.
    #[serde(default)]
    pub name: String,
    /// Volume driver.
    #[serde(default)]
    pub driver: String,
    /// Where in the container, cleaned and absolute.
    pub destination: String,
    /// Writable.
    pub rw: bool,
    /// Mode words as given with `-v`.
    #[serde(default)]
    pub mode: String,
    /// `rprivate` and so on; empty for volumes and tmpfs.
    #[serde(default)]
    pub propagation: String,
    /// Only the mount itself, not what is mounted below it.
    #[serde(default)]
    pub non_recursive: bool,
    /// Read only at the top alone.
    #[serde(default)]
    pub read_only_non_recursive: bool,
    /// A missing bind source is made as a directory (`-v`); otherwise it is an error (`--mount`).
    #[serde(default)]
    pub create_source: bool,
    /// Do not copy the image's content into an empty volume.
    #[serde(default)]
    pub no_copy: bool,
    /// Part of the volume to mount.
    #[serde(default)]
    pub subpath: String,
    /// Nobody named the volume: `rm -v` and `--rm` take it along.
    #[serde(default)]
    pub anonymous: bool,
    /// Labels of a volume that is made for this mount.
    #[serde(default)]
    pub volume_labels: HashMap<String, String>,
    /// Driver options of a volume that is made for this mount.
    #[serde(default)]
    pub volume_options: HashMap<String, String>,
    /// Mount options of a tmpfs.
    #[serde(default)]
    pub tmpfs_options: Vec<String>,
}

impl MountEntry {
    /// As shown by inspect.
    pub fn to_api(&self) -> MountPoint {
        MountPoint {
            typ: Some(self.kind.as_str().to_owned()),
            name: (self.kind == MountKind::Volume).then(|| self.name.clone()),
            source: Some(if self.kind == MountKind::Tmpfs {
                String::new()
            } else {
                self.source.clone()
            }),
            destination: Some(self.destination.clone()),
            driver: (self.kind == MountKind::Volume).then(|| self.driver.clone()),
            mode: Some(self.mode.clone()),
            rw: Some(self.rw),
            propagation: Some(self.propagation.clone()),
        }
    }
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Reads one `-v`: `[source:]destination[:mode]`.
///
/// # Errors
/// `Invalid` with Docker's texts.
pub fn parse_bind(spec: &str, driver: &str) -> Result<MountEntry> {
    let bad =
        |why: String| EngineError::Invalid(format!("invalid volume specification: '{spec}'{why}"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] if !is_mode(destination) => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(bad(String::new())),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(bad(String::new()));
    }
    let mut entry = MountEntry { rw: true, mode: mode.to_owned(), ..MountEntry::default() };
    entry.destination = destination_of(destination).map_err(|e| bad(format!(": {e}")))?;
    if source.starts_with('/') {
        entry.kind = MountKind::Bind;
        entry.source = clean(source);
        entry.propagation = "rprivate".to_owned();
        entry.create_source = true;
    } else {
        entry.kind = MountKind::Volume;
        entry.name = source.to_owned();
        entry.driver = driver_or_local(driver);
        entry.anonymous = source.is_empty();
        if !source.is_empty() {
            check::volume_name(source)?;
        }
    }
    apply_mode(&mut entry, mode).map_err(|e| bad(format!(": {e}")))?;
    Ok(entry)
}

fn is_mode(word: &str) -> bool {
    !word.starts_with('/')
        && apply_mode(&mut MountEntry { kind: MountKind::Bind, ..Default::default() }, word).is_ok()
}

fn apply_mode(entry: &mut MountEntry, mode: &str) -> Result<(), String> {
    let invalid = || Err(format!("invalid mode: {mode}"));
    let (mut access, mut label, mut propagation) = (0, 0, 0);
    for word in mode.split(',').filter(|_| !mode.is_empty()) {
        match word {
            "rw" => access += 1,
            "ro" => {
                access += 1;
                entry.rw = false;
            }
            // SELinux labels: accepted, nothing to do where there is no SELinux.
            "z" | "Z" => label += 1,
            "nocopy" if entry.kind == MountKind::Volume => entry.no_copy = true,
            "consistent" | "cached" | "delegated" => {}
            word if PROPAGATIONS.contains(&word) && entry.kind == MountKind::Bind => {
                propagation += 1;
                entry.propagation = word.to_owned();
            }
            _ => return invalid(),
        }
    }
    if access > 1 || label > 1 || propagation > 1 { invalid() } else { Ok(()) }
}

/// Reads one `--mount`.
///
/// # Errors
/// `Malformed` with Docker's texts.
pub fn parse_mount(mount: &Mount, driver: &str) -> Result<MountEntry> {
    check::mount(mount, Text::Plain)?;
    let fault = |fault| Malformed::Mount { kind: mount.kind, fault };
    let mut entry = MountEntry {
        destination: check::destination(&mount.target).map_err(fault)?,
        rw: !mount.read_only,
        ..MountEntry::default()
    };
    match mount.kind {
        MountType::Bind => {
            let options = mount.bind_options.clone().unwrap_or_default();
            entry.kind = MountKind::Bind;
            entry.source = clean(&mount.source);
            entry.propagation = options.propagation.as_str().to_owned();
            entry.non_recursive = options.non_recursive;
            entry.create_source = options.create_mountpoint;
            entry.read_only_non_recursive = options.read_only_non_recursive;
        }
        MountType::Volume => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let own = options.driver_config.unwrap_or_default();
            entry.kind = MountKind::Volume;
            entry.name.clone_from(&mount.source);
            entry.anonymous = mount.source.is_empty();
            entry.driver = if own.name.is_empty() { driver_or_local(driver) } else { own.name };
            entry.no_copy = options.no_copy;
            entry.subpath = options.subpath;
            entry.volume_labels = options.labels.into_iter().collect();
            entry.volume_options = own.options.into_iter().collect();
        }
        MountType::Tmpfs => {
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            entry.kind = MountKind::Tmpfs;
            entry.tmpfs_options = check::tmpfs_words(&options).map_err(fault)?;
            if !entry.rw {
                entry.tmpfs_options.push("ro".to_owned());
            }
        }
        kind @ (MountType::Image | MountType::Npipe | MountType::Cluster) => {
            return Err(Malformed::MountKind { kind }.into());
        }
    }
    Ok(entry)
}

/// The API's mount as the swarm's: both are one JSON shape.
///
/// # Errors
/// `Invalid` for a value that the shape does not have.
pub fn from_api(mount: &ApiMount) -> Result<Mount> {
    serde_json::to_value(mount)
        .and_then(serde_json::from_value)
        .map_err(|error| EngineError::Invalid(format!("invalid mount config: {error}")))
}

/// Whether the kernel can read a `name=value` of a tmpfs; it would only say that the whole mount is
/// invalid (`tmpfs(5)`).
fn is_tmpfs_value(word: &str) -> bool {
    let Some((name, value)) = word.split_once('=') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name {
        "size" if value.ends_with('%') => digits(value.trim_end_matches('%')),
        "size" | "nr_inodes" | "nr_blocks" => {
            digits(value.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G']).unwrap_or(value))
        }
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => value.parse::<u32>().is_ok(),
        _ => !value.is_empty(),
    }
}

/// Reads one `--tmpfs path[:options]` of `HostConfig.Tmpfs`.
///
/// # Errors
/// `Invalid` for a path or an option that cannot be.
pub fn parse_tmpfs(path: &str, options: &str) -> Result<MountEntry> {
    let fail = |why: String| {
        EngineError::Invalid(format!("invalid mount config for type \"tmpfs\": {why}"))
    };
    let destination = destination_of(path).map_err(fail)?;
    let mut words: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        let name = word.split_once('=').map_or(word, |(n, _)| n);
        match name {
            "exec" | "suid" | "dev" => words.retain(|w| *w != format!("no{name}")),
            "noexec" | "nosuid" | "nodev" => {}
            "rw" | "ro" | "sync" | "async" | "atime" | "noatime" | "diratime" | "nodiratime"
            | "relatime" | "norelatime" | "strictatime" | "nostrictatime" => {
                words.push(word.to_owned())
            }
            "size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"
                if word.contains('=') =>
            {
                if !is_tmpfs_value(word) {
                    return Err(fail(format!("invalid tmpfs option {word:?}")));
                }
                words.push(word.to_owned());
            }
            word if PROPAGATIONS.contains(&word) => words.push(word.to_owned()),
            _ => return Err(fail(format!("invalid tmpfs option {word:?}"))),
        }
    }
    Ok(MountEntry {
        kind: MountKind::Tmpfs,
        destination,
        rw: !words.iter().any(|w| w == "ro"),
        tmpfs_options: words,
        ..MountEntry::default()
    })
}

/// An anonymous volume for a `VOLUME` path.
///
/// # Errors
/// `Invalid` for a path that cannot be.
pub fn anonymous(path: &str, driver: &str) -> Result<MountEntry> {
    let destination = destination_of(path).map_err(|why| {
        EngineError::Invalid(format!("invalid mount config for type \"volume\": {why}"))
    })?;
    Ok(MountEntry {
        kind: MountKind::Volume,
        destination,
        rw: true,
        driver: driver_or_local(driver),
        anonymous: true,
        ..MountEntry::default()
    })
}

/// Reads `container[:ro|rw]` of `--volumes-from`.
///
/// # Errors
/// `Invalid` for other modes.
pub fn parse_volumes_from(spec: &str) -> Result<(&str, &str)> {
    let (container, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
    let known = mode.split(',').all(|m| matches!(m, "ro" | "rw" | "z" | "Z"));
    if container.is_empty() || !known {
        return Err(EngineError::Invalid(format!("invalid volumes-from specification: {spec}")));
    }
    Ok((container, mode))
}

/// Joins all sources by Docker's precedence: what is in `from` (other containers) gives way to `own`;
/// image volumes come last and only where nothing is yet.
///
/// # Errors
/// `Duplicate mount point` when two of `own` have one destination.
pub fn combine(
    from: Vec<MountEntry>,
    own: Vec<MountEntry>,
    images: Vec<MountEntry>,
) -> Result<Vec<MountEntry>> {
    let mut all: Vec<MountEntry> = Vec::new();
    for entry in from {
        all.retain(|e| e.destination != entry.destination);
        all.push(entry);
    }
    let mut seen = Vec::new();
    for entry in own {
        if seen.contains(&entry.destination) {
            return Err(EngineError::Invalid(format!(
                "Duplicate mount point: {}",
                entry.destination
            )));
        }
        seen.push(entry.destination.clone());
        all.retain(|e| e.destination != entry.destination);
        all.push(entry);
    }
    for entry in images {
        if !all.iter().any(|e| e.destination == entry.destination) {
            all.push(entry);
        }
    }
    Ok(all)
}

fn driver_or_local(driver: &str) -> String {
    if driver.is_empty() { "local".to_owned() } else { driver.to_owned() }
}

fn destination_of(path: &str) -> Result<String, String> {
    check::destination(path).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        let b = parse_bind("/a/../b:/c/:ro,rslave", "").unwrap();
        assert_eq!(
            (b.kind, b.source.as_str(), b.destination.as_str(), b.rw),
            (MountKind::Bind, "/b", "/c", false)
        );
        assert_eq!(b.propagation, "rslave");
        assert!(b.create_source);
        let v = parse_bind("data:/d:nocopy", "").unwrap();
        assert_eq!(
            (v.kind, v.name.as_str(), v.no_copy, v.anonymous),
            (MountKind::Volume, "data", true, false)
        );
        assert!(parse_bind("/d", "").unwrap().anonymous);
        for bad in [
            "",
            ":/d",
            "/a:b",
            "/a:/",
            "/a:/b:xx",
            "/a:/b:ro,rw",
            "a b:/c",
            "./a:/b",
            "/a:/b:ro:z",
            "data:/d:rslave",
            "/a:ro",
            "/a:/b:nocopy",
        ] {
            assert!(parse_bind(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts() {
        use bollard_stubs::models::{
            MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountTmpfsOptions,
            MountType as ApiType,
        };
        let mount = |typ, source: &str, target: &str| ApiMount {
            typ: Some(typ),
            source: Some(source.into()),
            target: Some(target.into()),
            ..Default::default()
        };
        let parse = |mount: &ApiMount| parse_mount(&from_api(mount).unwrap(), "");
        assert!(!parse(&mount(ApiType::BIND, "/a", "/b")).unwrap().create_source);
        assert!(parse(&mount(ApiType::VOLUME, "", "/b")).unwrap().anonymous);
        for (propagation, want) in [
            (None, "rprivate"),
            (Some(Propagation::EMPTY), "rprivate"),
            (Some(Propagation::RSLAVE), "rslave"),
        ] {
            let options = MountBindOptions { propagation, ..Default::default() };
            let bind =
                ApiMount { bind_options: Some(options), ..mount(ApiType::BIND, "/a/../c", "/b") };
            let bind = parse(&bind).unwrap();
            assert_eq!((bind.propagation.as_str(), bind.source.as_str()), (want, "/c"));
        }
        let tmpfs = ApiMount {
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(4096),
                mode: Some(0o700),
                options: None,
            }),
            read_only: Some(true),
            ..mount(ApiType::TMPFS, "", "/t")
        };
        assert_eq!(
            parse(&tmpfs).unwrap().tmpfs_options,
            ["noexec", "nosuid", "nodev", "size=4096", "mode=700", "ro"]
        );
        let odd = ApiMount { consistency: Some("odd".into()), ..mount(ApiType::BIND, "/a", "/b") };
        assert!(from_api(&odd).unwrap_err().to_string().contains("odd"));
    }

    #[test]
    fn tmpfs() {
        let t = parse_tmpfs("/run", "rw,exec,size=64m,mode=1777").unwrap();
        assert_eq!(t.tmpfs_options, ["nosuid", "nodev", "rw", "size=64m", "mode=1777"]);
        assert!(parse_tmpfs("/run", "foo").is_err());
        assert!(parse_tmpfs("run", "").is_err());
    }

    #[test]
    fn precedence() {
        let at = |destination: &str, name: &str| MountEntry {
            destination: destination.into(),
            name: name.into(),
            ..Default::default()
        };
        let all = combine(
            vec![at("/a", "from"), at("/b", "from")],
            vec![at("/b", "own")],
            vec![at("/b", "image"), at("/c", "image")],
        )
        .unwrap();
        let names: Vec<_> = all.iter().map(|e| (e.destination.as_str(), e.name.as_str())).collect();
        assert_eq!(names, [("/a", "from"), ("/b", "own"), ("/c", "image")]);
        assert!(combine(vec![], vec![at("/b", "1"), at("/b", "2")], vec![]).is_err());
        assert_eq!(parse_volumes_from("a:ro").unwrap(), ("a", "ro"));
        assert!(parse_volumes_from("a:xx").is_err());
    }
}

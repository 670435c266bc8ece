//! Volumes that are mounts themselves: options `type`, `o` and `device`, as `mount -t type -o o device`.

use std::collections::HashMap;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use skep_sys::mountinfo::mounts;

use crate::error::{EngineError, Result};

/// Whether a volume with these options has a mount of its own.
pub fn needed(options: &HashMap<String, String>) -> bool {
    options.get("device").is_some_and(|d| !d.is_empty())
}

/// What mounts volumes that are mounts. Each call may block as long as a file server or a resolver pleases.
pub trait Mounter: std::fmt::Debug + Send + Sync {
    /// Mounts a volume; nothing happens if that was done before.
    ///
    /// # Errors
    /// When the kernel refuses it, or an NFS server's name is not known.
    fn mount(&self, name: &str, options: &HashMap<String, String>, data: &Path) -> Result<()>;

    /// Takes a volume's mount away; nothing happens if there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn unmount(&self, data: &Path) -> Result<()>;
}

/// The kernel of this host.
#[derive(Debug)]
pub struct Kernel;

impl Mounter for Kernel {
    fn mount(&self, name: &str, options: &HashMap<String, String>, data: &Path) -> Result<()> {
        mount(name, options, data)
    }

    fn unmount(&self, data: &Path) -> Result<()> {
        unmount(data)
    }
}

fn mount(name: &str, options: &HashMap<String, String>, data: &Path) -> Result<()> {
    if is_mounted(data)? {
        return Ok(());
    }
    let get = |name: &str| options.get(name).map_or("", String::as_str);
    let (kind, device) = (get("type"), get("device"));
    let (flags, words) = split(get("o"));
    let words = if kind.starts_with("nfs") || kind == "cifs" { resolve(words)? } else { words };
    let what = |errno: Errno| {
        EngineError::system(
            format!(
                "error while mounting volume '{}': failed to mount local volume {name}: mount {device}:{}{}",
                data.display(),
                data.display(),
                if words.is_empty() { String::new() } else { format!(", data: {words}") }
            ),
            std::io::Error::from(errno),
        )
    };
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    nix::mount::mount(
        text(device).as_deref(),
        data,
        text(kind).as_deref(),
        flags,
        text(&words).as_deref(),
    )
    .map_err(what)?;
    // A bind ignores other flags until it is remounted with them.
    if flags.contains(MsFlags::MS_BIND) && flags.contains(MsFlags::MS_RDONLY) {
        let remount = flags | MsFlags::MS_REMOUNT;
        nix::mount::mount(None::<&str>, data, None::<&str>, remount, None::<&str>).map_err(what)?;
    }
    Ok(())
}

fn unmount(data: &Path) -> Result<()> {
    match nix::mount::umount2(data, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(EngineError::File {
            action: "unmount",
            path: data.to_owned(),
            source: errno.into(),
        }),
    }
}

/// By the kernel's list: a look at the folder itself would wait for a file server that does not answer.
fn is_mounted(data: &Path) -> Result<bool> {
    let mounts = mounts().map_err(EngineError::file("read", "/proc/thread-self/mountinfo"))?;
    Ok(mounts.iter().any(|mount| mount.point == data))
}

/// Words that are flags of the system call, and the others for the file system.
fn split(o: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut words = Vec::new();
    for word in o.split(',').filter(|w| !w.is_empty()) {
        match word {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            other => words.push(other),
        }
    }
    (flags, words.join(","))
}

/// Kernel file systems want an address where users write `addr=name`.
fn resolve(words: String) -> Result<String> {
    use std::net::{IpAddr, ToSocketAddrs};
    let mut out = Vec::new();
    for word in words.split(',').filter(|w| !w.is_empty()) {
        match word.strip_prefix("addr=") {
            Some(host) if host.parse::<IpAddr>().is_err() => {
                let found = (host, 0).to_socket_addrs().ok().and_then(|mut a| a.next());
                let address = found.ok_or_else(|| {
                    EngineError::Invalid(format!(
                        "error resolving passed in network volume address: {host}"
                    ))
                })?;
                out.push(format!("addr={}", address.ip()));
            }
            _ => out.push(word.to_owned()),
        }
    }
    Ok(out.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_in_a_folder_with_a_blank_is_mounted_once() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("sp ace");
        std::fs::create_dir(&data).unwrap();
        let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let count = || mounts().unwrap().iter().filter(|mount| mount.point == data).count();
        skep_sys::mounts::apart(|| {
            for _ in 0..3 {
                mount("tv", &options, &data).unwrap();
                assert_eq!(count(), 1);
            }
            unmount(&data).unwrap();
            assert_eq!(count(), 0);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn splitting() {
        let (flags, words) = split("bind,ro,size=1m,uid=5");
        assert_eq!(flags, MsFlags::MS_BIND | MsFlags::MS_RDONLY);
        assert_eq!(words, "size=1m,uid=5");
        assert_eq!(resolve("addr=10.0.0.1,vers=4".into()).unwrap(), "addr=10.0.0.1,vers=4");
    }
}

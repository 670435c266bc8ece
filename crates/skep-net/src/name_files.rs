//! `hosts`, `resolv.conf` and `hostname` of a container. They are mounted into it as
//! files, so they are written in place: a renamed one would not be seen.

use crate::cidr::Cidr;
use crate::config::DnsOptions;
use crate::dns::ResolvConf;
use crate::error::{NetError, Result};
use crate::model::{SandboxMode, SandboxSpec};
use crate::plan::RESOLVER;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines of every container's hosts file.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
/// Where the host keeps its own.
const HOST_HOSTS: &str = "/etc/hosts";
/// Where systemd-resolved keeps the servers that its stub hides.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// Writes `hosts` and `hostname` afresh. What is no file in the place of one of the three is set aside.
pub fn create(spec: &SandboxSpec, host_gateway: Option<Ipv4Addr>) -> Result<()> {
    let mut hosts = match spec.mode {
        SandboxMode::Isolated => HOSTS.to_owned(),
        SandboxMode::Host => read(Path::new(HOST_HOSTS))?.unwrap_or_else(|| HOSTS.to_owned()),
    };
    for extra in &spec.extra_hosts {
        let address = match (extra.address, host_gateway) {
            (Some(address), _) => address.to_string(),
            (None, Some(gateway)) => gateway.to_string(),
            (None, None) => {
                return Err(NetError::Invalid {
                    what: "extra host",
                    value: format!("{}:host-gateway", extra.name),
                    why: "this host has no gateway address for containers",
                });
            }
        };
        let _ = writeln!(hosts, "{address}\t{}", extra.name);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let path = spec.files_dir.join(name);
        let odd = skep_sys::files::set_aside_odd(&path).map_err(|source| NetError::File {
            action: "set aside",
            path,
            source,
        })?;
        if let Some(kept) = odd {
            tracing::warn!(kept = %kept.display(), "what was there is no file, the container gets a new one");
        }
    }
    write(&spec.files_dir.join("hosts"), &hosts)?;
    write(&spec.files_dir.join("hostname"), &format!("{}\n", spec.hostname))
}

/// Makes the hosts file name the container by exactly these addresses; lines that
/// somebody else added stay.
pub fn own_addresses(spec: &SandboxSpec, before: &[Cidr], now: &[Cidr]) -> Result<()> {
    let path = spec.files_dir.join("hosts");
    let Some(text) = read(&path)? else { return Ok(()) };
    let line = |address: &Cidr| {
        let full = match spec.domainname.as_str() {
            "" => spec.hostname.clone(),
            domain => format!("{host}.{domain} {host}", host = spec.hostname),
        };
        format!("{}\t{full}", address.addr())
    };
    let old: Vec<String> = before.iter().map(line).collect();
    let mut next: String =
        text.lines().filter(|l| !old.iter().any(|o| o == l)).map(|l| format!("{l}\n")).collect();
    for address in now {
        let _ = writeln!(next, "{}", line(address));
    }
    if next == text { Ok(()) } else { write(&path, &next) }
}

/// What the container's `resolv.conf` is to say.
pub fn resolv_conf(
    spec: &SandboxSpec,
    host: &Path,
    daemon: &DnsOptions,
    embedded: bool,
) -> Result<String> {
    let conf = host_resolv_conf(host)?.with(&spec.dns, daemon);
    Ok(match (spec.mode, embedded) {
        (SandboxMode::Host, _) => conf.render(),
        (SandboxMode::Isolated, true) => conf.embedded(RESOLVER.into()).render(),
        (SandboxMode::Isolated, false) => {
            let own = !spec.dns.servers.is_empty() || !daemon.servers.is_empty();
            if own { conf.render() } else { without_stub(conf)?.render() }
        }
    })
}

/// The host's IPv4 name servers as others than the host reach them.
pub fn name_servers(host: &Path) -> Result<Vec<Ipv4Addr>> {
    let servers = without_stub(host_resolv_conf(host)?)?.servers.into_iter();
    Ok(servers
        .filter_map(|server| match server {
            IpAddr::V4(server) => Some(server),
            IpAddr::V6(_) => None,
        })
        .collect())
}

/// Without servers on loopback; if that leaves none, with those that systemd-resolved has behind its stub.
fn without_stub(conf: ResolvConf) -> Result<ResolvConf> {
    let mut conf = conf.without_loopback();
    if conf.servers.is_empty()
        && let Some(text) = read(Path::new(BEHIND_STUB))?
    {
        conf.servers = ResolvConf::parse(&text).without_loopback().servers;
    }
    Ok(conf)
}

/// Writes `resolv.conf`, unless somebody edited it since `last` was written.
/// Returns what it holds of ours now.
pub fn update_resolv_conf(spec: &SandboxSpec, last: &str, next: String) -> Result<String> {
    let path = spec.files_dir.join("resolv.conf");
    let untouched = read(&path)?.is_none_or(|current| current.is_empty() || current == last);
    if untouched && next != last {
        write(&path, &next)?;
        return Ok(next);
    }
    Ok(last.to_owned())
}

/// The host's own; a host without one has no servers.
pub fn host_resolv_conf(path: &Path) -> Result<ResolvConf> {
    Ok(read(path)?.map(|text| ResolvConf::parse(&text)).unwrap_or_default())
}

/// The host's own, read again only when it is another file or was changed: queries of containers ask for it.
#[derive(Debug, Default)]
pub struct HostResolvConf {
    last: Mutex<Option<(Version, Arc<ResolvConf>)>>,
}

/// What tells one state of a file from another: device, inode, size, and both times, seconds and nanoseconds.
type Version = (u64, u64, u64, (i64, i64), (i64, i64));

impl HostResolvConf {
    /// What it says now; a host without one, or with one that cannot be read, has no servers. Costs one look at the file's
    /// metadata.
    pub fn read(&self, path: &Path) -> Arc<ResolvConf> {
        let version = fs::metadata(path).ok().map(|m| {
            let times = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
            (m.dev(), m.ino(), m.size(), times.0, times.1)
        });
        let Some(version) = version else { return Arc::default() };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, conf)) = &*last
            && *read == version
        {
            return Arc::clone(conf);
        }
        let conf = match host_resolv_conf(path) {
            Ok(conf) => Arc::new(conf),
            // Not kept: it may be readable the next time without having changed.
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot read the host's name servers");
                return Arc::default();
            }
        };
        *last = Some((version, Arc::clone(&conf)));
        conf
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match skep_sys::files::read(path) {
        Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        Err(source) => Err(NetError::File { action: "read", path: path.to_owned(), source }),
    }
}

/// In place: a container that runs has the file mounted.
fn write(path: &Path, text: &str) -> Result<()> {
    skep_sys::files::overwrite(path, text.as_bytes(), 0o644).map_err(|source| NetError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_made_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("hosts")).expect("folder");
        std::os::unix::fs::symlink("/etc/passwd", path("hostname")).expect("link");
        nix::unistd::mkfifo(&path("resolv.conf"), nix::sys::stat::Mode::S_IRUSR).expect("pipe");
        let mut spec = crate::world::tests::spec(1);
        spec.files_dir = folder.path().to_owned();
        create(&spec, None).expect("create");
        let last = update_resolv_conf(&spec, "", "nameserver 192.0.2.1\n".to_owned());
        assert_eq!(last.expect("resolv.conf"), "nameserver 192.0.2.1\n");
        for name in ["hosts", "hostname", "resolv.conf"] {
            let found = fs::symlink_metadata(path(name)).expect("file");
            assert!(found.is_file(), "{name}");
        }
    }

    #[test]
    fn the_hosts_resolv_conf_is_read_when_it_changed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("resolv.conf");
        let host = HostResolvConf::default();
        assert!(host.read(&path).servers.is_empty());
        fs::write(&path, "nameserver 192.0.2.1\n").expect("file");
        let first = host.read(&path);
        assert_eq!(first.servers, [IpAddr::from([192, 0, 2, 1])]);
        assert!(Arc::ptr_eq(&first, &host.read(&path)), "read again without need");
        // Replaced, as resolvconf does, and written over.
        fs::write(folder.path().join("new"), "nameserver 192.0.2.2\n").expect("file");
        fs::rename(folder.path().join("new"), &path).expect("rename");
        assert_eq!(host.read(&path).servers, [IpAddr::from([192, 0, 2, 2])]);
        fs::write(&path, "nameserver 192.0.2.30\n").expect("file");
        assert_eq!(host.read(&path).servers, [IpAddr::from([192, 0, 2, 30])]);
    }
}

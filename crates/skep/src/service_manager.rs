//! Talking to the service manager that started the daemon, by the protocol of `sd_notify(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Where the service manager wants to hear of the daemon's life; nowhere for a daemon started by hand.
///
/// The `sd-notify` crate was looked at: it cannot send to abstract sockets, which systemd uses for
/// services in containers.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
}

impl ServiceManager {
    /// `address` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub fn connect(address: Option<&OsStr>) -> Result<Self> {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(Self { socket: None });
        };
        let connect = || -> io::Result<UnixDatagram> {
            let address = match address.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(address)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            // A service manager that does not read must not stop the daemon.
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = connect().with_context(|| {
            format!("reach the service manager at NOTIFY_SOCKET={}", address.display())
        })?;
        Ok(Self { socket: Some(socket) })
    }

    /// The API answers, or a reload is done.
    pub fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// The configuration is read again; `ready` ends it.
    pub fn reloading(&self) {
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => {
                let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
                self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
            }
            Err(error) => warn!(%error, "read the clock"),
        }
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            warn!(state = state.trim_end(), %error, "cannot tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        ServiceManager::connect(Some(path.as_os_str())).unwrap().ready();
        assert_eq!(heard(&by_path), "READY=1\n");

        let name = format!("skep-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let manager = ServiceManager::connect(Some(OsStr::new(&format!("@{name}")))).unwrap();
        manager.stopping();
        assert_eq!(heard(&by_name), "STOPPING=1\n");
        manager.reloading();
        let text = heard(&by_name);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.trim_end().parse::<u64>().unwrap() > 0, "{text}");
    }

    #[test]
    fn nobody_to_tell_is_no_error_and_somebody_missing_is() {
        ServiceManager::connect(None).unwrap().ready();
        ServiceManager::connect(Some(OsStr::new(""))).unwrap().ready();
        let error = ServiceManager::connect(Some(OsStr::new("/nowhere/notify"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/notify"), "{error}");
    }
}

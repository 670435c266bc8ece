//! Sockets that the service manager bound before it started the daemon (`sd_listen_fds(3)`).

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use listenfd::ListenFd;
use rustls::ServerConfig;
use skep_api::Listener;

/// The first handed over descriptor, by the protocol.
const FIRST: usize = 3;

/// The sockets that were handed over and that nobody has taken yet.
pub struct Activated {
    descriptors: ListenFd,
    /// By position; fewer than descriptors when the service manager named none.
    names: Vec<String>,
}

impl Activated {
    /// Reads `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`, and removes the first two: must be called
    /// before there are threads.
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            descriptors: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.descriptors.len() == 0
    }

    /// Takes all sockets, or those with this descriptor number or name. Ports need `tls` unless they
    /// are on a loopback address.
    pub fn take(
        &mut self,
        which: Option<&str>,
        tls: Option<&Arc<ServerConfig>>,
    ) -> Result<Vec<Listener>> {
        if self.is_empty() {
            bail!("fd:// was asked for, and the service manager handed over no socket");
        }
        let mut listeners = Vec::new();
        let count = self.descriptors.len();
        let meant: Vec<_> = (0..count).filter(|index| self.is_meant(*index, which)).collect();
        for index in meant {
            let number = index + FIRST;
            // A wrong kind of socket stays where it is.
            if let Ok(Some(socket)) = self.descriptors.take_unix_listener(index) {
                listeners.push(Listener::inherited(socket)?);
                continue;
            }
            let port = self.descriptors.take_tcp_listener(index).with_context(|| {
                format!("use descriptor {number} of the service manager as a listening socket")
            })?;
            match port {
                Some(port) => listeners.push(Listener::inherited_tcp(port, tls.cloned())?),
                None => bail!("descriptor {number} of the service manager is used twice"),
            }
        }
        if listeners.is_empty() {
            bail!(
                "the service manager handed over no socket {:?}, only {count} from descriptor {FIRST} on, \
                 named {:?}",
                which.unwrap_or("*"),
                self.names
            );
        }
        Ok(listeners)
    }

    fn is_meant(&self, index: usize, which: Option<&str>) -> bool {
        let Some(which) = which else { return true };
        match which.parse::<usize>() {
            Ok(number) => number == index + FIRST,
            Err(_) => self.names.get(index).is_some_and(|name| name == which),
        }
    }
}

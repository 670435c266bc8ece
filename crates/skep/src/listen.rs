//! The sockets of the Engine API.

mod activated;
mod tls;

use std::sync::Arc;

use anyhow::Result;
use skep_api::Listener;

pub use activated::Activated;

use crate::config::{DEFAULT_SOCKET, ListenAddress, Settings};

/// Binds every address of the settings; connections wait in the kernel until the API serves them.
pub async fn bind(settings: &Settings, mut activated: Activated) -> Result<Vec<Listener>> {
    let tls = settings.tls.as_ref().map(tls::server_config).transpose()?;
    let default = [match activated.is_empty() {
        true => ListenAddress::Unix(DEFAULT_SOCKET.into()),
        false => ListenAddress::Activated(None),
    }];
    let hosts = if settings.hosts.is_empty() { &default[..] } else { &settings.hosts[..] };
    let mut listeners = Vec::new();
    for host in hosts {
        match host {
            ListenAddress::Unix(path) => listeners.push(Listener::unix(path)?),
            ListenAddress::Tcp(address) => listeners.push(match &tls {
                Some(tls) => Listener::tls(*address, Arc::clone(tls)).await?,
                None => Listener::tcp(*address).await?,
            }),
            ListenAddress::Activated(which) => {
                listeners.extend(activated.take(which.as_deref(), tls.as_ref())?);
            }
        }
    }
    Ok(listeners)
}

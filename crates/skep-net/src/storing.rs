//! The state files of the network room, kept up with the world.
//!
//! A write that fails (a full disk, one that is read-only) is answered to those who asked for what it
//! holds, and tried again at intervals; the kernel is brought up to date meanwhile, so that containers can
//! be stopped and removed, which is what makes room.

use crate::error::{NetError, Result};
use crate::ids::NetworkId;
use crate::model::Network;
use crate::state::Shared;
use crate::world::{Running, World};
use skep_types::Repeated;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

type Networks = BTreeMap<NetworkId, Network>;

/// What of the world is on disk.
pub struct Storing {
    /// `None` when not known.
    networks: Option<Networks>,
    /// Version of the world whose running part is on disk; `None` when not known.
    running: Option<u64>,
    retry_at: Option<Instant>,
    trouble: Repeated,
}

/// What has to be written.
pub struct Due {
    version: u64,
    networks: Networks,
    networks_differ: bool,
    running: Running,
}

impl Storing {
    /// `networks` are those that were read at start.
    pub fn new(networks: Option<Networks>) -> Self {
        Self { networks, running: None, retry_at: None, trouble: Repeated::default() }
    }

    /// What differs from the disk, if it is time to write.
    pub fn due(&self, world: &World, version: u64, asked: bool, now: Instant) -> Option<Due> {
        let differs = self.running != Some(version);
        let may = asked || self.retry_at.is_none_or(|at| at <= now);
        (differs && may).then(|| Due {
            version,
            networks: world.networks.clone(),
            networks_differ: self.networks.as_ref() != Some(&world.networks),
            running: world.running.clone(),
        })
    }

    /// When a write that failed is to be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Writes. Nothing due is no error, unless an earlier write still fails.
    pub fn store(&mut self, shared: &Shared, due: Due) -> std::result::Result<(), Arc<NetError>> {
        match self.write(shared, due) {
            Ok(()) => {
                self.retry_at = None;
                if let Some(failures) = self.trouble.succeeded() {
                    tracing::info!(failures, "the network's state is stored again");
                }
                Ok(())
            }
            Err(error) => {
                let now = Instant::now();
                self.retry_at = Some(now + RETRY);
                let reason = skep_types::report(&error);
                if let Some(failures) = self.trouble.failed(now, &reason) {
                    tracing::error!(error = reason, failures, "cannot store the network's state");
                }
                Err(Arc::new(error))
            }
        }
    }

    /// Each file by itself, so that one that cannot be written does not keep back the other.
    fn write(&mut self, shared: &Shared, due: Due) -> Result<()> {
        let networks = match due.networks_differ {
            true => shared.store_networks(&due.networks),
            false => Ok(()),
        };
        let running = shared.store_running(due.running, &due.networks);
        networks?;
        self.networks = Some(due.networks);
        running?;
        self.running = Some(due.version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Handles;
    use crate::config::NetConfig;
    use crate::world::Facts;

    #[test]
    fn a_write_that_fails_is_tried_again_after_a_pause() {
        let temp = tempfile::tempdir().unwrap();
        // A file where the folder should be.
        let (exec, data) = (temp.path().join("exec"), temp.path().join("data"));
        std::fs::create_dir_all(data.join("network")).unwrap();
        std::fs::write(&exec, "").unwrap();
        let config = NetConfig::new(&exec, data);
        let facts = Facts {
            mtu: 1500,
            underlay_mtu: 1500,
            pools: Vec::new(),
            host_routes: Vec::new(),
            default_binding: std::net::Ipv4Addr::UNSPECIFIED,
            blocked_ports: std::collections::BTreeSet::new(),
            socket_match: true,
            claims: BTreeMap::new(),
            owner: String::new(),
        };
        let world = World::new(facts);
        let shared = Shared::new(config, Handles::default(), None, world, Arc::default());
        let world = shared.read(World::clone);
        let mut storing = Storing::new(Some(BTreeMap::new()));
        let start = Instant::now();
        let due = storing.due(&world, 1, false, start).unwrap();
        storing.store(&shared, due).unwrap_err();
        let retry_at = storing.retry_at().unwrap();
        assert!(retry_at >= start + RETRY);
        assert!(storing.due(&world, 1, false, start).is_none(), "not before its time");
        assert!(storing.due(&world, 2, false, start).is_none(), "nor for another change");
        assert!(storing.due(&world, 2, true, start).is_some(), "but when somebody waits for it");
        assert!(storing.due(&world, 2, false, retry_at).is_some());

        std::fs::remove_file(&exec).unwrap();
        std::fs::create_dir_all(exec.join("net")).unwrap();
        let due = storing.due(&world, 2, false, retry_at).unwrap();
        storing.store(&shared, due).unwrap();
        assert_eq!(storing.retry_at(), None);
        assert!(storing.due(&world, 2, true, start).is_none());
    }
}

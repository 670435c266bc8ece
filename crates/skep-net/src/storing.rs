//! The state files of the network room, kept up with the world.
//!
//! A write that fails (a full disk, one that is read-only) is answered to those who asked for what it
//! holds, and tried again at intervals; the kernel is brought up to date meanwhile, so that containers can
//! be stopped and removed, which is what makes room.

use crate::error::{NetError, Result};
use crate::ids::{NetworkId, SandboxId};
use crate::merge;
use crate::model::Network;
use crate::sandbox_files::{SandboxFiles, Sandboxes};
use crate::state::Shared;
use crate::world::{Running, Sandbox, World};
use skep_types::Repeated;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

type Networks = BTreeMap<NetworkId, Network>;

/// What of the world is on disk.
pub struct Storing {
    files: SandboxFiles,
    /// `None` when not known.
    networks: Option<Networks>,
    /// Without sandboxes, and the networks beside it; `None` when not known.
    running: Option<(Running, Networks)>,
    sandboxes: Sandboxes,
    /// Version of the world that is on disk; `None` when not known.
    version: Option<u64>,
    retry_at: Option<Instant>,
    trouble: Repeated,
}

/// What has to be written.
pub struct Due {
    version: u64,
    networks: Option<Networks>,
    running: Option<(Running, Networks)>,
    sandboxes: Vec<Arc<Sandbox>>,
    gone: Vec<SandboxId>,
}

impl Storing {
    /// `networks` are those that were read at start, `sandboxes` those of `files`.
    pub fn new(files: SandboxFiles, networks: Option<Networks>, sandboxes: Sandboxes) -> Self {
        Self {
            files,
            networks,
            running: None,
            sandboxes,
            version: None,
            retry_at: None,
            trouble: Repeated::default(),
        }
    }

    /// What differs from the disk, if it is time to write.
    pub fn due(&self, world: &World, version: u64, asked: bool, now: Instant) -> Option<Due> {
        let differs = self.version != Some(version);
        let may = asked || self.retry_at.is_none_or(|at| at <= now);
        if !differs || !may {
            return None;
        }
        let (mut sandboxes, mut gone) = (Vec::new(), Vec::new());
        for (id, now, stored) in merge::join(&world.running.sandboxes, &self.sandboxes) {
            match (now, stored) {
                (Some(now), Some(stored)) if Arc::ptr_eq(now, stored) => {}
                (Some(now), _) => sandboxes.push(Arc::clone(now)),
                (None, _) => gone.push(id.clone()),
            }
        }
        let same_networks = |stored: &Networks| *stored == world.networks;
        let same = |(running, networks): &(Running, Networks)| {
            running.is_same_beside_sandboxes(&world.running) && same_networks(networks)
        };
        let networks = !self.networks.as_ref().is_some_and(same_networks);
        let running = !self.running.as_ref().is_some_and(same);
        Some(Due {
            version,
            networks: networks.then(|| world.networks.clone()),
            running: running.then(|| (world.running.beside_sandboxes(), world.networks.clone())),
            sandboxes,
            gone,
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

    /// Each kind of file by itself, so that one that cannot be written does not keep back the others. First what makes
    /// room.
    fn write(&mut self, shared: &Shared, due: Due) -> Result<()> {
        let sandboxes = self.write_sandboxes(due.gone, due.sandboxes);
        let networks = due.networks.map_or(Ok(()), |networks| {
            shared.store_networks(&networks)?;
            self.networks = Some(networks);
            Ok(())
        });
        // The first one of a daemon may take the sandboxes' place: those of a daemon of before are in it.
        let due_running = due.running.filter(|_| sandboxes.is_ok() || self.running.is_some());
        let running = due_running.map_or(Ok(()), |(running, networks)| {
            shared.store_running(&running, &networks)?;
            self.running = Some((running, networks));
            Ok(())
        });
        sandboxes.and(networks).and(running)?;
        self.version = Some(due.version);
        Ok(())
    }

    /// All are tried; the first failure is returned. A file that cannot be removed is in nobody's way, and is
    /// tried again by the next daemon.
    fn write_sandboxes(&mut self, gone: Vec<SandboxId>, changed: Vec<Arc<Sandbox>>) -> Result<()> {
        for id in gone {
            if let Err(error) = self.files.remove(&id) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(sandbox = %id, error, "cannot remove a state file");
            }
            self.sandboxes.remove(&id);
        }
        let mut first = Ok(());
        for sandbox in changed {
            match self.files.store(&sandbox) {
                Ok(()) => drop(self.sandboxes.insert(sandbox.spec.id.clone(), sandbox)),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Handles;
    use crate::config::NetConfig;
    use crate::world::Facts;
    use crate::world::tests::spec;

    #[test]
    fn a_write_that_fails_is_tried_again_after_a_pause() {
        let temp = tempfile::tempdir().unwrap();
        // A file where the folder should be.
        let (exec, data) = (temp.path().join("exec"), temp.path().join("data"));
        std::fs::create_dir_all(data.join("network")).unwrap();
        let config = NetConfig::new(&exec, data);
        let files = SandboxFiles::open(&config).unwrap();
        std::fs::remove_dir_all(&exec).unwrap();
        std::fs::write(&exec, "").unwrap();
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
        let shared = Shared::new(config, Handles::default(), world, Arc::default());
        let world = shared.read(World::clone);
        let mut storing = Storing::new(files, Some(BTreeMap::new()), Sandboxes::new());
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
    /// A host's files below a folder of the test's, and a world with so many sandboxes of which none is stored.
    fn rig(sandboxes: u32) -> (tempfile::TempDir, NetConfig, SandboxFiles, Shared) {
        let temp = tempfile::tempdir().unwrap();
        let config = NetConfig::new(temp.path().join("exec"), temp.path().join("data"));
        std::fs::create_dir_all(temp.path().join("data/network")).unwrap();
        let mut world = crate::world::tests::world();
        for number in 1..=sandboxes {
            world.create_sandbox(spec(number)).unwrap();
        }
        let files = SandboxFiles::open(&config).unwrap();
        let shared = Shared::new(config.clone(), Handles::default(), world, Arc::default());
        (temp, config, files, shared)
    }

    #[test]
    fn only_what_changed_is_written() {
        let (_temp, config, files, shared) = rig(3);
        let mut storing = Storing::new(files, None, Sandboxes::new());
        let mut version = 0;
        let mut write = |change: &dyn Fn(&mut World)| {
            version += 1;
            let mut state = shared.lock();
            change(&mut state.world);
            let due = storing.due(&state.world, version, false, Instant::now()).unwrap();
            drop(state);
            let parts = (due.sandboxes.len(), due.gone.len(), due.running.is_some());
            storing.store(&shared, due).unwrap();
            parts
        };
        assert_eq!(write(&|_| {}), (3, 0, true));
        assert_eq!(write(&|_| {}), (0, 0, false));
        let second = spec(2).id;
        assert_eq!(
            write(&|w| w.sandbox_mut(&second).unwrap().dns_ports = Some((1, 2))),
            (1, 0, false)
        );
        assert_eq!(write(&|w| drop(w.running.sandboxes.remove(&spec(1).id))), (0, 1, false));
        assert_eq!(write(&|w| w.running.mesh_gateway = Some("m".into())), (0, 0, true));

        // The next daemon finds them.
        let found = Shared::load(&config).unwrap().running;
        assert_eq!(found.sandboxes.keys().cloned().collect::<Vec<_>>(), [spec(2).id, spec(3).id]);
        assert_eq!(found.sandboxes[&spec(2).id].dns_ports, Some((1, 2)));
        assert_eq!(found.mesh_gateway, Some("m".into()));
    }

    #[test]
    fn sandboxes_in_the_file_of_all_are_taken_over_and_damaged_ones_set_aside() {
        let (_temp, config, files, shared) = rig(2);
        // As a daemon of before wrote it.
        shared.read(|world| shared.store_running(&world.running, &world.networks)).unwrap();
        let found = Shared::load(&config).unwrap();
        assert_eq!(found.running.sandboxes.len(), 2);
        assert!(found.stored_sandboxes.is_empty());
        for sandbox in found.running.sandboxes.values() {
            files.store(sandbox).unwrap();
        }
        let folder = config.exec_root.join("net/sandboxes");
        std::fs::write(folder.join(format!("{}.json", spec(1).id)), "{\"format\":1,").unwrap();
        let found = Shared::load(&config).unwrap();
        assert_eq!(found.stored_sandboxes.len(), 1);
        assert!(folder.join(format!("{}.json.damaged", spec(1).id)).exists());
    }

    #[test]
    fn networks_that_cannot_be_read_stay_on_a_disk_that_takes_no_change() {
        use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};
        let name =
            "storing::tests::networks_that_cannot_be_read_stay_on_a_disk_that_takes_no_change";
        in_own_mounts(name, || {
            let (_temp, mut config, _files, shared) = rig(1);
            let disk = SmallDisk::mount("size=1m");
            config.data_root = disk.path().to_owned();
            let file = Shared::networks_file(&config);
            std::fs::create_dir(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "garbage").unwrap();
            let networks = shared.read(|world| world.networks.clone());
            let world = crate::world::tests::world();
            let shared = Shared::new(config.clone(), Handles::default(), world, Arc::default());
            let refusing = disk.begin(Trouble::ReadOnly);
            for _ in 0..2 {
                let found = Shared::load(&config).unwrap();
                assert_eq!(found.unread_networks.as_ref(), Some(&file));
                shared.store_networks(&networks).unwrap_err();
            }
            drop(refusing);
            shared.store_networks(&networks).unwrap();
            let kept = file.with_file_name("networks.json.damaged");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), "garbage");
            let found = Shared::load(&config).unwrap();
            assert_eq!((found.networks, found.unread_networks), (networks, None));
        });
    }

    #[test]
    fn the_file_of_all_is_not_replaced_before_the_sandboxes_have_their_own() {
        let (_temp, config, files, shared) = rig(1);
        shared.read(|world| shared.store_running(&world.running, &world.networks)).unwrap();
        // No room for one more file, say.
        let folder = config.exec_root.join("net/sandboxes");
        std::fs::remove_dir(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        let mut storing = Storing::new(files, None, Sandboxes::new());
        let due = shared.read(|world| storing.due(world, 1, true, Instant::now())).unwrap();
        storing.store(&shared, due).unwrap_err();
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(Shared::load(&config).unwrap().running.sandboxes.len(), 1);
    }
}

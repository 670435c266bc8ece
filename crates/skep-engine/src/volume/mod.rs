//! Volumes of the `local` driver.
//!
//! `<data root>/volumes/<name>/` holds `volume.json` and `_data`. A volume exists from the moment
//! its record is in place; a folder without one is removed at start. Who uses it is known from the
//! containers' records and held in memory, so that a removal and a create never cross.

pub(crate) mod api;
mod content;
mod mount;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use content::copy_up;
pub use record::VolumeRecord;
use skep_types::check;

use crate::error::{EngineError, Result};
use crate::util;

/// Label that marks a volume nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// All volumes of the host.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    table: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    record: VolumeRecord,
    /// Containers that name it.
    users: BTreeSet<String>,
    /// Containers that run with it; its own mount is there while there are any.
    active: BTreeSet<String>,
}

/// What to make a volume with.
#[derive(Debug, Clone, Default)]
pub struct VolumeSpec {
    /// A random name when empty.
    pub name: String,
    /// `local` or empty.
    pub driver: String,
    /// `type`, `o`, `device`.
    pub options: HashMap<String, String>,
    /// Labels.
    pub labels: HashMap<String, String>,
}

impl Volumes {
    /// Reads all records below `root`; removes what has none.
    ///
    /// # Errors
    /// When the folder cannot be used. A damaged record is reported and left alone.
    pub fn open(root: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&root).map_err(EngineError::file("create", &root))?;
        let mut table = BTreeMap::new();
        for entry in std::fs::read_dir(&root).map_err(EngineError::file("read", &root))? {
            let entry = entry.map_err(EngineError::file("read", &root))?;
            let dir = entry.path();
            if !dir.is_dir() {
                continue;
            }
            match VolumeRecord::load(&dir) {
                Ok(Some(record)) => {
                    let entry = Entry { record, users: BTreeSet::new(), active: BTreeSet::new() };
                    table.insert(entry.record.name.clone(), entry);
                }
                Ok(None) => {
                    tracing::info!(path = %dir.display(), "removing an unfinished volume");
                    std::fs::remove_dir_all(&dir).map_err(EngineError::file("remove", &dir))?;
                }
                Err(error) => {
                    tracing::error!(path = %dir.display(), error = &error as &dyn std::error::Error, "a volume cannot be used");
                }
            }
        }
        Ok(Self { root, table: Mutex::new(table) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a volume is on the host.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.dir(name).join("_data")
    }

    /// Makes a volume, or gives the one of that name. The flag tells whether it is new. With `user`
    /// that container holds it from now on.
    ///
    /// # Errors
    /// `Invalid` for malformed names and options; `NotFound` for other drivers; file errors.
    pub fn create(&self, spec: VolumeSpec, user: Option<&str>) -> Result<(VolumeRecord, bool)> {
        if !matches!(spec.driver.as_str(), "" | "local") {
            return Err(EngineError::NotFound(format!(
                "error looking up volume plugin {0}: plugin \"{0}\" not found",
                spec.driver
            )));
        }
        let mut labels = spec.labels;
        let name = if spec.name.is_empty() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            util::random_id()
        } else {
            check::volume_name(&spec.name)?;
            spec.name
        };
        check::volume_options(&spec.options)?;
        // Held while the folder is made: a few system calls, and two creates of one name meet here.
        let mut table = self.lock();
        if let Some(entry) = table.get_mut(&name) {
            entry.users.extend(user.map(str::to_owned));
            return Ok((entry.record.clone(), false));
        }
        let record = VolumeRecord {
            name: name.clone(),
            created: util::now(),
            options: spec.options,
            labels,
        };
        let dir = self.dir(&name);
        record.make(&dir)?;
        let users = user.map(str::to_owned).into_iter().collect();
        table.insert(name, Entry { record: record.clone(), users, active: BTreeSet::new() });
        Ok((record, true))
    }

    /// A volume by name.
    ///
    /// # Errors
    /// `NoSuchVolume`.
    pub fn get(&self, name: &str) -> Result<VolumeRecord> {
        self.lock()
            .get(name)
            .map(|e| e.record.clone())
            .ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))
    }

    /// All volumes with the containers that name them.
    pub fn all(&self) -> Vec<(VolumeRecord, Vec<String>)> {
        self.lock()
            .values()
            .map(|e| (e.record.clone(), e.users.iter().cloned().collect()))
            .collect()
    }

    /// Notes at start that a container names a volume. Missing ones are made again, empty.
    pub fn adopt(&self, name: &str, container: &str, running: bool) {
        let missing = !self.lock().contains_key(name);
        if missing {
            tracing::warn!(volume = name, container, "the volume of a container is missing");
            return;
        }
        if let Some(entry) = self.lock().get_mut(name) {
            entry.users.insert(container.to_owned());
            if running {
                entry.active.insert(container.to_owned());
            }
        }
    }

    /// A container no longer names any volume.
    pub fn release(&self, container: &str) {
        for entry in self.lock().values_mut() {
            entry.users.remove(container);
        }
    }

    /// Gets a volume ready for a container that is about to run; mounts it if it has options.
    ///
    /// # Errors
    /// `NoSuchVolume`; a mount the kernel refuses.
    pub fn activate(&self, name: &str, container: &str) -> Result<PathBuf> {
        let data = self.mountpoint(name);
        let mut table = self.lock();
        let entry =
            table.get_mut(name).ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?;
        if entry.active.is_empty() && mount::needed(&entry.record.options) {
            mount::mount(name, &entry.record.options, &data)?;
        }
        entry.active.insert(container.to_owned());
        Ok(data)
    }

    /// A container no longer runs; the last one takes a volume's own mount away.
    pub fn deactivate(&self, name: &str, container: &str) {
        let data = self.mountpoint(name);
        let mut table = self.lock();
        let Some(entry) = table.get_mut(name) else { return };
        if entry.active.remove(container)
            && entry.active.is_empty()
            && mount::needed(&entry.record.options)
            && let Err(error) = mount::unmount(&data)
        {
            tracing::warn!(
                volume = name,
                error = &error as &dyn std::error::Error,
                "could not unmount a volume"
            );
        }
    }

    /// Removes a volume with its content.
    ///
    /// # Errors
    /// `NoSuchVolume`, `VolumeInUse`, file errors (the record stays then, and it can be repeated).
    pub fn remove(&self, name: &str) -> Result<VolumeRecord> {
        let (record, grave) = {
            let mut table = self.lock();
            let entry =
                table.get(name).ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))?;
            if !entry.users.is_empty() {
                let holders = entry.users.iter().cloned().collect();
                return Err(EngineError::VolumeInUse { name: name.to_owned(), holders });
            }
            let dir = self.dir(name);
            if mount::needed(&entry.record.options) {
                mount::unmount(&self.mountpoint(name))?;
            }
            // Without its record it is no volume any more; a crash from here on is finished at start.
            let file = dir.join(record::FILE);
            std::fs::remove_file(&file).map_err(EngineError::file("remove", &file))?;
            // Out of the way, so that the name is free at once.
            let grave = self.root.join(format!(".removed-{}", util::random_id()));
            std::fs::rename(&dir, &grave).map_err(EngineError::file("remove", &dir))?;
            let record = entry.record.clone();
            table.remove(name);
            (record, grave)
        };
        std::fs::remove_dir_all(&grave).map_err(EngineError::file("remove", &grave))?;
        Ok(record)
    }

    /// Bytes in a volume.
    pub fn size(&self, name: &str) -> u64 {
        content::size(&self.mountpoint(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp() -> (tempfile::TempDir, Volumes) {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().join("volumes")).unwrap();
        (dir, volumes)
    }

    #[test]
    fn names() {
        for good in ["ab", "a.b", "0_x-y"] {
            check::volume_name(good).unwrap();
        }
        for bad in ["", "a", "-a", "a/b", "../x", "a b", &"x".repeat(256)] {
            assert!(check::volume_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn life_of_a_volume() {
        let (dir, volumes) = temp();
        let spec = VolumeSpec { name: "data".into(), ..Default::default() };
        assert!(volumes.create(spec.clone(), Some("c1")).unwrap().1);
        assert!(!volumes.create(spec.clone(), None).unwrap().1);
        assert!(matches!(volumes.remove("data"), Err(EngineError::VolumeInUse { .. })));
        volumes.release("c1");
        std::fs::write(volumes.mountpoint("data").join("f"), "x").unwrap();
        let again = Volumes::open(dir.path().join("volumes")).unwrap();
        assert_eq!(again.get("data").unwrap().name, "data");
        volumes.remove("data").unwrap();
        assert!(matches!(volumes.remove("data"), Err(EngineError::NoSuchVolume(_))));
        assert_eq!(std::fs::read_dir(dir.path().join("volumes")).unwrap().count(), 0);
        let anonymous = volumes.create(VolumeSpec::default(), None).unwrap().0;
        assert_eq!(anonymous.name.len(), 64);
        assert!(anonymous.labels.contains_key(ANONYMOUS_LABEL));
        let plugin = VolumeSpec { driver: "nfsplug".into(), ..Default::default() };
        assert!(volumes.create(plugin, None).is_err());
    }

    #[test]
    fn half_made_volumes_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volumes");
        std::fs::create_dir_all(root.join("half/_data")).unwrap();
        let volumes = Volumes::open(root.clone()).unwrap();
        assert!(volumes.get("half").is_err());
        assert!(!root.join("half").exists());
    }
}

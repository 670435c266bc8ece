//! Volumes of the `local` driver.
//!
//! `<data root>/volumes/<name>/` holds `_data` and, made by us, `volume.json`. As with Docker the folder is
//! the volume: one that somebody put here is one, and a record that cannot be read takes nothing with it.
//! What we make is prepared below a reserved name, which no volume can have, and renamed into place; what
//! we remove gets such a name first. So only those are ever cleared away at start. Who uses a volume is
//! known from the containers' records and held in memory, so that a removal and a create never cross.

pub(crate) mod api;
mod aside;
mod content;
mod mount;
mod record;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::FileType;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use content::copy_up;
pub use record::VolumeRecord;
use skep_sys::files;
use skep_types::check;

use crate::error::{EngineError, Result};
use crate::util;
use aside::Aside;
use mount::{Kernel, Mounter};

/// Label that marks a volume nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Names of folders that are being made and removed begin so: no volume's name begins with a dot.
const MAKING: &str = ".making-";
const REMOVED: &str = ".removed-";

/// All volumes of the host.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    /// Never held while something is mounted or unmounted.
    table: Mutex<BTreeMap<String, Entry>>,
    mounter: Box<dyn Mounter>,
    aside: Aside,
}

#[derive(Debug, Clone)]
struct Entry {
    record: VolumeRecord,
    /// Containers that name it.
    users: BTreeSet<String>,
    /// Containers that run with it, and which of their runs that is; its own mount is there while there are
    /// any. An unmount that hangs may end when the next run has begun long since.
    active: BTreeMap<String, u64>,
    /// It is not taken back with the create of the container that it was made for: somebody has asked for it
    /// by itself, or its folder was there before.
    kept: bool,
    /// Held while its own mount is made or taken away, which may take for ever. The table's lock may be
    /// taken under it, never the other way round.
    turn: Arc<Mutex<()>>,
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

fn hold(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn new(record: VolumeRecord) -> Self {
        Self {
            record,
            users: BTreeSet::new(),
            active: BTreeMap::new(),
            kept: true,
            turn: Arc::default(),
        }
    }
}

impl Volumes {
    /// Looks for volumes below `root`; removes what an earlier daemon was making or removing.
    ///
    /// # Errors
    /// When the folder cannot be used. A damaged volume is shown as such, a leftover that cannot be removed
    /// stays: neither keeps the others from being used.
    pub fn open(root: PathBuf) -> Result<Self> {
        Self::open_with(root, Box::new(Kernel))
    }

    fn open_with(root: PathBuf, mounter: Box<dyn Mounter>) -> Result<Self> {
        // Users put folders and files here, too.
        files::dir_of_mode(&root, 0o711)
            .and_then(|()| files::sync_parent(&root))
            .map_err(EngineError::file("create", &root))?;
        for (name, kind) in entries(&root)? {
            let path = root.join(&name);
            if kind.is_dir() && (name.starts_with(MAKING) || name.starts_with(REMOVED)) {
                clear(&path);
            } else if kind.is_symlink() {
                tracing::warn!(
                    path = %path.display(),
                    "a symbolic link is no volume: a folder from elsewhere can be mounted there instead"
                );
            }
        }
        let aside = Aside::default();
        let volumes = Self { root, table: Mutex::default(), mounter, aside };
        for record in volumes.all().into_iter().map(|(record, _)| record) {
            if let Some(damage) = record.damage {
                tracing::error!(volume = record.name, damage, "the record of a volume is damaged");
            }
        }
        Ok(volumes)
    }

    /// The entry of a volume, as the disk has it if it is not known yet or was damaged: records are
    /// repaired, and folders put here, while the daemon runs.
    fn find<'t>(
        &self,
        table: &'t mut BTreeMap<String, Entry>,
        name: &str,
    ) -> Result<Option<&'t mut Entry>> {
        if table.get(name).is_none_or(|e| e.record.damage.is_some())
            && check::volume_name(name).is_ok()
            && let Some(record) = VolumeRecord::load(&self.dir(name), name)?
        {
            match table.get_mut(name) {
                Some(entry) => entry.record = record,
                None => {
                    table.insert(name.to_owned(), Entry::new(record));
                }
            }
        }
        Ok(table.get_mut(name))
    }

    /// As `find`, for those who need it.
    fn need<'t>(
        &self,
        table: &'t mut BTreeMap<String, Entry>,
        name: &str,
    ) -> Result<&'t mut Entry> {
        self.find(table, name)?.ok_or_else(|| EngineError::NoSuchVolume(name.to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a volume is on the host.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.dir(name).join(record::DATA)
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
        let dir = self.dir(&name);
        let record = VolumeRecord {
            name: name.clone(),
            created: util::now(),
            options: spec.options,
            labels,
            damage: None,
        };
        let hold = |entry: &mut Entry| {
            entry.users.extend(user.map(str::to_owned));
            entry.kept |= user.is_none();
            entry.record.clone()
        };
        {
            let mut table = self.lock();
            if let Some(entry) = self.find(&mut table, &name)? {
                return Ok((hold(entry), false));
            }
            if let Ok(found) = std::fs::symlink_metadata(&dir) {
                if !found.is_dir() {
                    return Err(EngineError::Conflict(format!(
                        "{} is not a folder, so that no volume can have this name: move it away, or choose \
                         another name",
                        dir.display()
                    )));
                }
                // Somebody's folder without content: it is made a volume, what else is in it stays.
                record.add_data(&dir)?;
                record.save(&dir)?;
                let entry = table.entry(name).or_insert_with(|| Entry::new(record));
                return Ok((hold(entry), true));
            }
        }
        // Outside of the lock, because it waits for the disk.
        let aside = self.root.join(format!("{MAKING}{}", util::random_id()));
        record.make(&aside)?;
        let made = {
            let mut table = self.lock();
            match self.find(&mut table, &name) {
                Ok(Some(entry)) => Ok((hold(entry), false)),
                Ok(None) => files::rename_new(&aside, &dir)
                    .map_err(EngineError::file("create", &dir))
                    .map(|()| {
                        let new = || Entry { kept: false, ..Entry::new(record) };
                        let entry = table.entry(name).or_insert_with(new);
                        (hold(entry), true)
                    }),
                Err(error) => Err(error),
            }
        };
        if matches!(made, Ok((_, true))) {
            files::sync_dir(&self.root).map_err(EngineError::file("sync", &self.root))?;
        } else {
            clear(&aside);
        }
        made
    }

    /// A volume by name.
    ///
    /// # Errors
    /// `NoSuchVolume`.
    pub fn get(&self, name: &str) -> Result<VolumeRecord> {
        self.need(&mut self.lock(), name).map(|e| e.record.clone())
    }

    /// All volumes with the containers that name them.
    pub fn all(&self) -> Vec<(VolumeRecord, Vec<String>)> {
        let on_disk = names(&self.root).unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not look for volumes");
            Vec::new()
        });
        let mut table = self.lock();
        for name in on_disk {
            if let Err(error) = self.find(&mut table, &name) {
                tracing::warn!(
                    volume = name,
                    error = &error as &dyn std::error::Error,
                    "could not look at a volume"
                );
            }
        }
        table.values().map(|e| (e.record.clone(), e.users.iter().cloned().collect())).collect()
    }

    /// Notes at start that a container names a volume.
    pub fn adopt(&self, name: &str, container: &str, running: bool) {
        match self.lock().get_mut(name) {
            Some(entry) => {
                entry.users.insert(container.to_owned());
                if running {
                    // The first run that this daemon knows.
                    entry.active.insert(container.to_owned(), 0);
                }
            }
            None => {
                tracing::warn!(volume = name, container, "the volume of a container is missing")
            }
        }
    }

    /// A container no longer names any volume.
    pub fn release(&self, container: &str) {
        for entry in self.lock().values_mut() {
            entry.users.remove(container);
        }
    }

    /// Whether a volume is a mount of its own, so that what is done with it may hang.
    pub fn has_mount(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|e| mount::needed(&e.record.options))
    }

    /// Gets a volume ready for a container that is about to run, for the `run`th time; mounts it if it has
    /// options. Others than those who want the same volume do not wait for that.
    ///
    /// # Errors
    /// `NoSuchVolume`; a mount the kernel refuses; `VolumeDamaged` if its options are not known and there
    /// is no content either.
    pub fn activate(&self, name: &str, container: &str, run: u64) -> Result<PathBuf> {
        let data = self.mountpoint(name);
        let mut table = self.lock();
        let entry = self.need(&mut table, name)?;
        if let Some(damage) = &entry.record.damage
            && is_empty(&data)
        {
            // It may be that of a volume with options, which has its content elsewhere: what a container
            // wrote here would be lost to it. What a plain volume holds is used.
            return Err(EngineError::VolumeDamaged {
                name: name.to_owned(),
                damage: damage.clone(),
                file: self.dir(name).join(record::FILE),
            });
        }
        if !mount::needed(&entry.record.options) {
            entry.active.insert(container.to_owned(), run);
            return Ok(data);
        }
        let (options, turn) = (entry.record.options.clone(), entry.turn.clone());
        drop(table);
        let _turn = hold(&turn);
        // Also if others use it: those that the records say run may have ended with the host, and their
        // mounts with them. Where it is mounted nothing happens.
        self.need(&mut self.lock(), name)?;
        self.mounter.mount(name, &options, &data)?;
        let used = self.lock().get_mut(name).map(|e| e.active.insert(container.to_owned(), run));
        if used.is_none() {
            self.mounter.unmount(&data)?;
            return Err(EngineError::NoSuchVolume(name.to_owned()));
        }
        Ok(data)
    }

    /// A container's `run`th run is over; the last one takes a volume's own mount away. Nothing happens if the
    /// container runs again already.
    pub fn deactivate(&self, name: &str, container: &str, run: u64) {
        let turn = {
            let mut table = self.lock();
            let Some(entry) = table.get_mut(name) else { return };
            if entry.active.get(container) != Some(&run) {
                return;
            }
            entry.active.remove(container);
            if !entry.active.is_empty() || !mount::needed(&entry.record.options) {
                return;
            }
            entry.turn.clone()
        };
        let _turn = hold(&turn);
        // Somebody may have come meanwhile.
        let unused = self.lock().get(name).is_some_and(|entry| entry.active.is_empty());
        if unused && let Err(error) = self.mounter.unmount(&self.mountpoint(name)) {
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
    /// `NoSuchVolume`, `VolumeInUse`, file errors: it is still there then, but when only freeing the space
    /// failed, which the next start repeats.
    pub fn remove(&self, name: &str) -> Result<VolumeRecord> {
        self.remove_if(name, |_| true)
    }

    /// Takes back a volume that was made for a container which could not be. Gives whether it is gone: it
    /// stays if somebody else has found it meanwhile.
    ///
    /// # Errors
    /// File errors, as [`Volumes::remove`].
    pub fn take_back(&self, name: &str) -> Result<bool> {
        match self.remove_if(name, |entry| !entry.kept) {
            Ok(_) => Ok(true),
            Err(EngineError::NoSuchVolume(_) | EngineError::VolumeInUse { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove_if(&self, name: &str, may: impl Fn(&Entry) -> bool) -> Result<VolumeRecord> {
        let unused = |entry: &Entry| match entry.users.is_empty() && may(entry) {
            true => Ok(()),
            false => {
                let holders = entry.users.iter().cloned().collect();
                Err(EngineError::VolumeInUse { name: name.to_owned(), holders })
            }
        };
        let turn = {
            let mut table = self.lock();
            let entry = self.need(&mut table, name)?;
            unused(entry)?;
            let mounted = mount::needed(&entry.record.options) || entry.record.damage.is_some();
            mounted.then(|| entry.turn.clone())
        };
        let _turn = turn.as_deref().map(hold);
        if turn.is_some() {
            self.mounter.unmount(&self.mountpoint(name))?;
        }
        let (record, grave) = {
            let mut table = self.lock();
            let entry = self.need(&mut table, name)?;
            unused(entry)?;
            let dir = self.dir(name);
            // With this name it is no volume any more; a crash from here on is finished at start.
            let grave = self.root.join(format!("{REMOVED}{}", util::random_id()));
            files::rename_new(&dir, &grave)
                .and_then(|()| files::sync_dir(&self.root))
                .map_err(EngineError::file("remove", &dir))?;
            let record = entry.record.clone();
            table.remove(name);
            (record, grave)
        };
        files::remove_tree(&grave).map_err(EngineError::file("remove", &grave))?;
        Ok(record)
    }

    /// Bytes in a volume; 0 with a warning if it cannot be read.
    pub fn size(&self, name: &str) -> u64 {
        content::size(&self.mountpoint(name)).unwrap_or_else(|error| {
            tracing::warn!(volume = name, %error, "could not measure a volume");
            0
        })
    }
}

/// Names of the folders in `root`; others can be no volume, nor can links to folders.
fn names(root: &Path) -> Result<Vec<String>> {
    let folders = entries(root)?.into_iter().filter(|(_, kind)| kind.is_dir());
    Ok(folders.map(|(name, _)| name).collect())
}

/// What is in `root`, but for names that are no text.
fn entries(root: &Path) -> Result<Vec<(String, FileType)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(EngineError::file("read", root))? {
        let entry = entry.map_err(EngineError::file("read", root))?;
        let kind = entry.file_type().map_err(EngineError::file("look at", entry.path()))?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, kind)));
    }
    Ok(found)
}

/// Removes what is below a reserved name. What cannot be removed is tried again at the next start.
fn clear(path: &Path) {
    match files::remove_tree(path) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "an unfinished or removed volume was cleared away")
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "could not clear a volume away");
        }
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests;

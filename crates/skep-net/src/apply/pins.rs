//! Where namespaces are held, so that they outlive the daemon: in the folder `netns` of the exec root, where people and
//! tools look for them. Those of containers are links there. Their pins are mounts beside the host's, because each start
//! of a container copies the host's.

use crate::error::{NetError, Result};
use crate::plan::NsName;
use skep_sys::aside::Aside;
use skep_sys::files::{Durability, remove_file};
use skep_sys::netns::NetNs;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The pin of the host's own namespace, which sandboxes in host mode name.
pub const HOST_PIN: &str = "default";
/// The link that all links to what is aside go by.
const ASIDE: &str = ".aside";

/// The pins.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
    /// `None` where the host allows no such thing: pins are in the folder then.
    aside: Option<Aside>,
}

impl Pins {
    /// In `folder`, which must exist; beside it there is another for what is aside.
    pub fn open(folder: PathBuf) -> Result<Self> {
        let aside = folder.with_file_name("aside");
        let opened = Aside::open(&aside).and_then(|aside| {
            let link = folder.join(ASIDE);
            // Another daemon's thread, or nobody's.
            remove_file(&link, Durability::Volatile)?;
            symlink(aside.root(), &link).map(|()| aside)
        });
        let aside = match opened {
            Ok(aside) => Some(aside),
            Err(error) => {
                tracing::warn!(%error, path = %aside.display(), "containers' namespaces are pinned among the host's mounts");
                None
            }
        };
        Ok(Self { folder, aside })
    }

    /// Where a namespace of that file name is found.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Opens what is pinned. Finding none or something else is an error.
    pub fn find(&self, name: &NsName, file: &str) -> io::Result<NetNs> {
        match self.aside(name) {
            // Also if the link is missing: the daemon may have been killed before it made it. An earlier release had its
            // pins in the folder.
            Some(aside) => NetNs::open(&aside.root().join(file))
                .and_then(|ns| self.link(file).map(|()| ns))
                .or_else(|_| NetNs::open(&self.path(file))),
            None => NetNs::open(&self.path(file)),
        }
    }

    /// Whether people find this namespace there.
    pub fn shows(&self, file: &str, ns: &NetNs) -> bool {
        NetNs::open(&self.path(file)).is_ok_and(|pin| pin.is_same(ns).unwrap_or(false))
    }

    /// Pins a namespace in place of whatever is there.
    pub fn pin(&self, name: &NsName, file: &str, ns: &NetNs) -> Result<()> {
        self.remove(file)?;
        let path = self.path(file);
        let failed = |source| NetError::Namespace { action: "pin", path: path.clone(), source };
        let Some(aside) = self.aside(name) else { return ns.pin(&path).map_err(failed) };
        let fd = ns.fd().map_err(failed)?;
        let inside = Path::new("/").join(file);
        let pinned = aside.run(move || skep_sys::netns::pin(fd, &inside));
        pinned.and_then(|()| self.link(file)).map_err(failed)
    }

    /// Takes a pin away; the namespace goes with its last user. Whether there was one.
    pub fn remove(&self, file: &str) -> Result<bool> {
        let path = self.path(file);
        let failed = |source| NetError::Namespace { action: "remove", path: path.clone(), source };
        let mut there = fs::symlink_metadata(&path).is_ok();
        NetNs::remove(&path).map_err(failed)?;
        if let Some(aside) = &self.aside {
            let outside = aside.root().join(file);
            if fs::symlink_metadata(&outside).is_ok() {
                there = true;
                let inside = Path::new("/").join(file);
                aside.run(move || NetNs::remove(&inside)).map_err(failed)?;
            }
        }
        Ok(there)
    }

    /// File names of all pins but the host's.
    pub fn list(&self) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        let aside = self.aside.as_ref().map(Aside::root);
        for folder in [Some(&*self.folder), aside].into_iter().flatten() {
            let failed =
                |source| NetError::File { action: "list", path: folder.to_owned(), source };
            for entry in fs::read_dir(folder).map_err(failed)? {
                all.insert(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
            }
        }
        all.retain(|file| file != HOST_PIN && file != ASIDE);
        Ok(all)
    }

    /// Where the pins of such namespaces are, if not in the folder. There are few others.
    fn aside(&self, name: &NsName) -> Option<&Aside> {
        self.aside.as_ref().filter(|_| name.is_sandbox())
    }

    fn link(&self, file: &str) -> io::Result<()> {
        let (path, target) = (self.path(file), Path::new(ASIDE).join(file));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(());
        }
        remove_file(&path, Durability::Volatile)?;
        symlink(target, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> usize {
        fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo").lines().count()
    }

    fn sandbox(file: &str) -> NsName {
        NsName::Sandbox(file.into())
    }

    #[test]
    fn pins_of_containers_are_found_and_are_no_mounts_of_the_host() {
        let dir = tempfile::tempdir().expect("tempdir");
        // On a thread with mounts of its own, so that nothing is left behind.
        let work = || {
            let folder = dir.path().join("netns");
            fs::create_dir(&folder)?;
            let made: Vec<NetNs> = (0..5).map(|_| NetNs::anonymous()).collect::<io::Result<_>>()?;
            let file = |n: usize| format!("{n:012x}");
            let open = || Pins::open(folder.clone()).map_err(io::Error::other);
            let pins = open()?;
            let before = mounts();
            for (n, ns) in made.iter().enumerate() {
                pins.pin(&sandbox(&file(n)), &file(n), ns).map_err(io::Error::other)?;
            }
            assert_eq!(mounts(), before);
            pins.pin(&NsName::Ingress, "ingress_sbox", &made[0]).map_err(io::Error::other)?;
            assert_eq!(mounts(), before + 1);
            assert!(made.iter().enumerate().all(|(n, ns)| pins.shows(&file(n), ns)));
            drop(pins);
            // One that an earlier release left, one whose link was never made, one whose link leads elsewhere.
            skep_sys::netns::pin(made[1].fd()?, &folder.join("old"))?;
            fs::remove_file(folder.join(file(2)))?;
            fs::remove_file(folder.join(file(3)))?;
            symlink("/proc/self/ns/net", folder.join(file(3)))?;

            let pins = open()?;
            let found = |file: &str, ns: &NetNs| {
                let found = pins.find(&sandbox(file), file)?;
                assert!(pins.shows(file, ns), "{file}");
                found.is_same(ns)
            };
            for (n, ns) in made.iter().enumerate() {
                assert!(found(&file(n), ns)?, "{n}");
            }
            assert!(found("old", &made[1])?);
            assert_eq!(pins.list().map_err(io::Error::other)?.len(), 7);
            for file in (0..5).map(file).chain(["old".to_owned(), "ingress_sbox".to_owned()]) {
                assert!(pins.remove(&file).map_err(io::Error::other)?, "{file}");
                assert!(!pins.remove(&file).map_err(io::Error::other)?, "{file}");
                assert!(pins.find(&sandbox(&file), &file).is_err());
            }
            assert!(pins.list().map_err(io::Error::other)?.is_empty());
            assert_eq!(mounts(), before);
            Ok(())
        };
        skep_sys::mounts::apart(work).expect("apart");
    }
}

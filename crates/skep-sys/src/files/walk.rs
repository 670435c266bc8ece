//! Walking trees of any depth.
//!
//! A container can nest folders deeper than a path, a stack or a descriptor table can hold, and can move
//! them while they are walked. So nothing here recurses, only some folders of the way down are held open,
//! and one that is opened again is compared with what it was.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::beneath::names;

/// Folders of the way down that are held open, besides the top one.
const HELD: usize = 16;

/// A step of a [`Walk`].
#[derive(Debug)]
pub enum Visit {
    /// Something in the present folder. [`Walk::enter`] goes into it.
    Entry(CString, Stat),
    /// All of the present folder was given; the next step goes on in the one above. The top folder comes
    /// last.
    Leave,
}

/// A tree, folder by folder, names sorted by their bytes. Links are given, not followed; what vanishes
/// meanwhile is left out.
#[derive(Debug)]
pub struct Walk {
    way: Descent,
    /// What is left to give, of the top folder first.
    names: Vec<std::vec::IntoIter<CString>>,
    left: bool,
}

impl Walk {
    /// Begins in an open folder.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn new(top: OwnedFd) -> io::Result<Self> {
        let names = vec![names(&top)?.into_iter()];
        Ok(Self { way: Descent::new(top)?, names, left: false })
    }

    /// The next step; `None` after the top folder was left.
    ///
    /// # Errors
    /// Those of reading; `ESTALE` if a folder on the way was moved elsewhere.
    pub fn step(&mut self) -> io::Result<Option<Visit>> {
        if std::mem::take(&mut self.left) {
            self.names.pop();
            if self.names.is_empty() {
                return Ok(None);
            }
            self.way.up()?;
        }
        let Some(names) = self.names.last_mut() else { return Ok(None) };
        for name in names {
            match statat(self.way.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Ok(Some(Visit::Entry(name, stat))),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.left = true;
        Ok(Some(Visit::Leave))
    }

    /// Goes into a folder of the present one. `false` if there is no such folder (any more).
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub fn enter(&mut self, name: &CStr) -> io::Result<bool> {
        let folder = match open_folder(self.way.here(), name) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let names = names(&folder)?;
        self.way.down(folder)?;
        self.names.push(names.into_iter());
        Ok(true)
    }

    /// Gives nothing more of the present folder.
    pub fn skip(&mut self) {
        if let Some(names) = self.names.last_mut() {
            *names = Vec::new().into_iter();
        }
    }

    /// The present folder.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.way.here()
    }

    /// How many folders the present one is below the top.
    pub fn depth(&self) -> usize {
        self.way.above.len()
    }
}

/// Opens a folder by its name, never a link.
pub(super) fn open_folder(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// File system and inode.
pub(super) fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A folder in a tree, and the way back up.
#[derive(Debug)]
pub(super) struct Descent {
    above: Vec<Level>,
    here: OwnedFd,
    id: (u64, u64),
}

#[derive(Debug)]
struct Level {
    /// `None`: opened again when the way comes back.
    folder: Option<OwnedFd>,
    id: (u64, u64),
}

impl Descent {
    pub(super) fn new(top: OwnedFd) -> io::Result<Self> {
        let id = identity(&top)?;
        Ok(Self { above: Vec::new(), here: top, id })
    }

    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// The folder it began in.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        match self.above.first() {
            Some(Level { folder: Some(top), .. }) => top.as_fd(),
            _ => self.here.as_fd(),
        }
    }

    /// `folder` is in the present one.
    pub(super) fn down(&mut self, folder: OwnedFd) -> io::Result<()> {
        let id = identity(&folder)?;
        let above = std::mem::replace(&mut self.here, folder);
        let above_id = std::mem::replace(&mut self.id, id);
        self.above.push(Level { folder: Some(above), id: above_id });
        if let Some(far) = self.above.len().checked_sub(HELD + 1)
            && far > 0
        {
            self.above[far].folder = None;
        }
        Ok(())
    }

    /// Back to the folder above; stays at the top.
    pub(super) fn up(&mut self) -> io::Result<()> {
        let Some(level) = self.above.pop() else { return Ok(()) };
        self.here = match level.folder {
            Some(folder) => folder,
            None => {
                let above = open_folder(self.here.as_fd(), c"..")?;
                if identity(&above)? != level.id {
                    // Moved while its content was walked: what is above it now is not this tree's.
                    return Err(Errno::STALE.into());
                }
                above
            }
        };
        self.id = level.id;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::Path;

    use rustix::fs::{CWD, mkdirat, open, renameat};

    pub fn folder(path: &Path) -> OwnedFd {
        open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// In memory where there is such a place: a disk takes its time to remove a hundred thousand folders.
    pub fn quick() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// Folders in folders, a file in each hundredth.
    pub fn nest(top: &Path, depth: usize) {
        let mut dir = folder(top);
        for level in 0..depth {
            mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).unwrap();
            if level % 100 == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&dir, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
            }
            dir = open_folder(dir.as_fd(), c"d").unwrap();
        }
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
    }

    #[test]
    fn a_hundred_thousand_folders_are_walked_with_few_descriptors_and_removed() {
        let temp = quick();
        let top = temp.path().join("top");
        std::fs::create_dir(&top).unwrap();
        nest(&top, 100_000);
        let mut walk = Walk::new(folder(&top)).unwrap();
        let (before, mut most) = (open_descriptors(), 0);
        let (mut folders, mut files, mut left) = (0, 0, 0);
        while let Some(visit) = walk.step().unwrap() {
            match visit {
                Visit::Entry(name, _) if name.as_c_str() == c"file" => files += 1,
                Visit::Entry(name, _) => {
                    folders += 1;
                    assert!(walk.enter(&name).unwrap());
                    assert_eq!(walk.depth(), folders);
                }
                Visit::Leave => left += 1,
            }
            if (folders + left) % 10_000 == 0 {
                most = most.max(open_descriptors());
            }
        }
        assert_eq!((folders, files, left), (100_000, 1000, 100_001));
        // Other tests of this process open descriptors meanwhile.
        assert!(most <= before + HELD + 100, "{most} descriptors, {before} before");
        super::super::remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_folder_that_was_moved_away_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let (top, other) = (temp.path().join("top"), temp.path().join("other"));
        std::fs::create_dir(&top).unwrap();
        std::fs::create_dir(&other).unwrap();
        nest(&top, 3 * HELD);
        let mut walk = Walk::new(folder(&top)).unwrap();
        while walk.depth() < 3 * HELD {
            if let Some(Visit::Entry(name, _)) = walk.step().unwrap() {
                walk.enter(&name).unwrap();
            }
        }
        // The parent of a folder that is no longer held.
        let path: std::path::PathBuf = std::iter::repeat_n("d", HELD).collect();
        renameat(CWD, top.join(path), CWD, other.join("d")).unwrap();
        let error = loop {
            match walk.step() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("nothing was noticed"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(Errno::STALE.raw_os_error()));
    }
}

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skep_sys::files::{self, Durability};
use skep_types::stored;

use crate::NodeError;

/// How far this host's membership has come. Written before the step it names begins, so that a start
/// after a crash knows what to finish and what to undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A swarm is being made; nobody was told that it exists.
    Initialising,
    /// A swarm is being joined; nobody was told that it worked.
    Joining,
    Member,
    /// Being left; what is there is to go.
    Leaving,
}

/// The state file: `docker-state.json` of a Docker daemon, in our words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub phase: Phase,
    pub listen_addr: SocketAddr,
    pub advertise_addr: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path_addr: Option<IpAddr>,
    /// Managers to begin with, host:port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_addrs: Vec<String>,
}

/// Newest format of both files.
const FORMAT: u32 = 1;

/// `managers.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Managers {
    managers: Vec<String>,
}

/// The folder `swarm/` of the data root: state file, certificates, raft log, task database.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(data_root: &Path) -> Self {
        Self { path: data_root.join("swarm") }
    }

    pub fn certificates(&self) -> PathBuf {
        self.path.join("certificates")
    }

    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    pub fn worker(&self) -> PathBuf {
        self.path.join("worker")
    }

    fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    fn managers(&self) -> PathBuf {
        self.path.join("managers.json")
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
        let path = path.to_owned();
        move |source| NodeError::Disk { action, path, source }
    }

    /// `None` outside a swarm. Blocks, as the others do.
    ///
    /// # Errors
    /// When it cannot be read; and when there is none, but the rest of a swarm: the state file is the first
    /// to be written and the last to be removed.
    pub fn load(&self) -> Result<Option<State>, NodeError> {
        let path = self.state();
        let state = self.read(&path)?;
        let rest = [self.certificates(), self.raft(), self.worker()];
        match rest.into_iter().find(|rest| state.is_none() && rest.exists()) {
            Some(rest) => Err(NodeError::StateMissing { path, rest }),
            None => Ok(state),
        }
    }

    /// Whole or not at all, and synced.
    pub fn store(&self, state: &State) -> Result<(), NodeError> {
        self.write(&self.state(), state)
    }

    /// The managers that the last session named, host:port; empty before the first. The next session makes
    /// the file anew, so that one that cannot be read counts as none.
    pub fn load_managers(&self) -> Vec<String> {
        let path = self.managers();
        match self.read::<Managers>(&path) {
            Ok(managers) => managers.map(|file| file.managers).unwrap_or_default(),
            Err(error) => {
                // As it was in format 0.
                let bytes = files::read(&path).ok().flatten().unwrap_or_default();
                if let Ok(managers) = serde_json::from_slice(&bytes) {
                    return managers;
                }
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the list of managers cannot be read; this node asks those that it joined by"
                );
                Vec::new()
            }
        }
    }

    /// As [`Folder::store`].
    pub fn store_managers(&self, managers: &[String]) -> Result<(), NodeError> {
        self.write(&self.managers(), &Managers { managers: managers.to_owned() })
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, NodeError> {
        let Some(bytes) = files::read(path).map_err(self.failed("read", path))? else {
            return Ok(None);
        };
        let bad = |e: stored::Unreadable| io::Error::new(io::ErrorKind::InvalidData, e);
        stored::decode(FORMAT, &bytes)
            .map(Some)
            .map_err(|e| self.failed("understand", path)(bad(e)))
    }

    fn write<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), NodeError> {
        let written = || -> io::Result<()> {
            files::make_dirs(&self.path, 0o700)?;
            files::replace(path, &stored::encode(FORMAT, value)?, 0o600, Durability::Lasting)
        };
        written().map_err(self.failed("write", path))
    }

    /// Removes everything. The state file goes last: while it is there, a start after a crash goes on
    /// removing. All is tried; the first error is returned.
    pub fn clear(&self) -> Result<(), NodeError> {
        let mut first = Ok(());
        for path in [self.raft(), self.worker(), self.certificates()] {
            if let Err(e) = files::remove_tree(&path) {
                let error = self.failed("remove", &path)(e);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot remove swarm state"
                );
                first = first.and(Err(error));
            }
        }
        first?;
        files::remove_leftovers(&self.path).map_err(self.failed("clear", &self.path))?;
        for path in [self.managers(), self.state()] {
            files::remove_file(&path, Durability::Volatile)
                .map_err(self.failed("remove", &path))?;
        }
        match files::sync_dir(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("sync", &self.path)(e))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_before_there_were_numbers_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path());
        std::fs::create_dir(temp.path().join("swarm")).unwrap();
        std::fs::write(folder.managers(), r#"["192.0.2.1:2377"]"#).unwrap();
        assert_eq!(folder.load_managers(), ["192.0.2.1:2377"]);
        let text = r#"{"Phase":"member","ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"192.0.2.1:2377","RemoteAddrs":["192.0.2.2:2377"]}"#;
        std::fs::write(folder.state(), text).unwrap();
        let state = folder.load().unwrap().unwrap();
        assert_eq!((state.phase, state.advertise_addr.port()), (Phase::Member, 2377));
        folder.store(&state).unwrap();
        folder.store_managers(&state.remote_addrs).unwrap();
        for path in [folder.state(), folder.managers()] {
            let value: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert_eq!(value["format"], FORMAT);
        }
        assert_eq!(folder.load().unwrap(), Some(state));
        assert_eq!(folder.load_managers(), ["192.0.2.2:2377"]);
    }
}

use std::path::PathBuf;
use std::sync::Arc;

use skep_pki::TlsHandle;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::db::TaskDb;
use crate::session::Sessions;
use crate::worker::Worker;
use crate::{Executor, Link, ManagerAddress, SessionView, configure, strays};

/// What an agent needs.
pub struct AgentConfig {
    /// Managers to begin with; every session brings the current list.
    pub managers: Vec<ManagerAddress>,
    /// The node's credentials. A replacement makes the agent connect anew.
    pub tls: TlsHandle,
    pub executor: Arc<dyn Executor>,
    /// Folder of the task database. Created if missing.
    pub state_dir: PathBuf,
}

#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot open the task database in {}", state_dir.display())]
    Database {
        state_dir: PathBuf,
        #[source]
        source: crate::DatabaseError,
    },
}

/// A running agent.
///
/// Dropping it stops it at once; [`Agent::shutdown`] stops it and waits. Both leave containers alone.
#[derive(Debug)]
pub struct Agent {
    view: watch::Receiver<Option<Arc<SessionView>>>,
    link: watch::Receiver<Link>,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Agent {
    /// Opens the task database, takes up the tasks in it and begins to look for a manager.
    ///
    /// Returns before any manager has answered.
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        let AgentConfig { managers, tls, executor, state_dir } = config;
        let folder = state_dir.clone();
        let opened = tokio::task::spawn_blocking(move || TaskDb::open(&folder)).await;
        let (db, stored) = match opened {
            Ok(opened) => opened.map_err(|source| StartError::Database { state_dir, source })?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        tracing::info!(tasks = stored.len(), "tasks taken up from disk");
        let stop = CancellationToken::new();
        let board = Arc::new(Board::default());
        let worker =
            Worker::new(executor.clone(), Arc::new(db), board.clone(), stored, stop.clone());
        let (view_sender, view) = watch::channel(None);
        let none = Link::Down { reason: "no manager was asked yet".to_owned() };
        let (link_sender, link) = watch::channel(none);
        let sessions = Sessions {
            tls,
            executor: executor.clone(),
            worker: worker.clone(),
            board,
            view: view_sender,
            link: link_sender,
            stop: stop.clone(),
        };
        let configuring = configure::follow(executor.clone(), view.clone(), stop.clone());
        let sweeping = strays::follow(executor, worker.clone(), stop.clone());
        let running = tokio::spawn(async move {
            tokio::join!(sessions.run(managers), configuring, sweeping);
            worker.stopped().await;
        });
        Ok(Self { view, link, stop, running: Some(running) })
    }

    /// The newest session message; `None` until the first. Keeps the last one while no manager
    /// answers.
    pub fn node(&self) -> watch::Receiver<Option<Arc<SessionView>>> {
        self.view.clone()
    }

    /// Whether a manager answers.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Ends the session and stops watching tasks; containers stay as they are. What tasks have
    /// reached is on disk when this returns.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take()
            && let Err(error) = running.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

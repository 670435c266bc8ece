use std::sync::Arc;

use skep_control::Store;
use skep_pki::TlsHandle;
use skep_types::{HostRoute, NodeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::dispatcher::{Sessions, StatusReports};
use crate::logs::LogBroker;
use crate::raft::Raft;
use crate::store::{StoreCell, Writer};

/// Answers at once; asked whenever a subnet is to be chosen.
pub type HostRoutes = Arc<dyn Fn() -> Vec<HostRoute> + Send + Sync>;

/// What all parts of one manager share.
pub(crate) struct Shared {
    pub node_id: NodeId,
    pub cell: StoreCell,
    pub writer: Writer,
    pub raft: Raft,
    pub tls: TlsHandle,
    pub sessions: Sessions,
    pub reports: StatusReports,
    pub logs: LogBroker,
    pub host_routes: HostRoutes,
    /// Whether the agent beside this manager runs: from then on it can speak.
    pub own_agent: watch::Sender<bool>,
    /// True while this manager leads and its loops run.
    pub leading: watch::Sender<bool>,
    /// Cancelled when the manager stops.
    pub stop: CancellationToken,
}

impl Shared {
    pub fn read(&self) -> Store {
        self.cell.read()
    }
}

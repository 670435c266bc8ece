use std::sync::Arc;

use async_trait::async_trait;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::types::{Member, Raft, RaftId, TypeConfig};

/// One kind of message between managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RaftCall {
    Append,
    Vote,
    Snapshot,
}

/// Why a message did not get an answer.
#[derive(Debug, Error)]
pub(crate) enum TransportError {
    /// Nobody there: wait before the next try.
    #[error("manager {addr} cannot be reached")]
    Unreachable {
        addr: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The message broke on its way: try again.
    #[error("a raft message to manager {addr} failed")]
    Failed {
        addr: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Carries a message to another manager and its answer back. Both are JSON.
///
/// An implementer authenticates the peer as a manager of this swarm and bounds the time of a call.
#[async_trait]
pub(crate) trait RaftTransport: Send + Sync + 'static {
    async fn call(
        &self,
        to: &Member,
        call: RaftCall,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, TransportError>;
}

/// Makes a connection per member for openraft.
#[derive(Clone)]
pub(crate) struct Network {
    transport: Arc<dyn RaftTransport>,
}

impl Network {
    pub fn new(transport: Arc<dyn RaftTransport>) -> Self {
        Self { transport }
    }
}

pub(crate) struct Connection {
    transport: Arc<dyn RaftTransport>,
    id: RaftId,
    member: Member,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: RaftId, node: &Member) -> Connection {
        Connection { transport: self.transport.clone(), id: target, member: node.clone() }
    }
}

type CallError<E> = RPCError<RaftId, Member, RaftError<RaftId, E>>;

impl Connection {
    async fn call<Q, A, E>(&self, call: RaftCall, message: &Q) -> Result<A, CallError<E>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let message =
            serde_json::to_vec(message).map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        let answer =
            self.transport.call(&self.member, call, message).await.map_err(|e| match e {
                TransportError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&e)),
                TransportError::Failed { .. } => RPCError::Network(NetworkError::new(&e)),
            })?;
        let answer: Result<A, RaftError<RaftId, E>> = serde_json::from_slice(&answer)
            .map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        answer.map_err(|e| RPCError::RemoteError(RemoteError::new(self.id, e)))
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, CallError<openraft::error::Infallible>> {
        self.call(RaftCall::Append, &rpc).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<RaftId>, CallError<InstallSnapshotError>> {
        self.call(RaftCall::Snapshot, &rpc).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, CallError<openraft::error::Infallible>> {
        self.call(RaftCall::Vote, &rpc).await
    }
}

/// Answers a message that arrived from another manager.
///
/// # Errors
/// The message is not one of ours.
pub(crate) async fn serve(
    raft: &Raft,
    call: RaftCall,
    message: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    match call {
        RaftCall::Append => {
            serde_json::to_vec(&raft.append_entries(serde_json::from_slice(message)?).await)
        }
        RaftCall::Vote => serde_json::to_vec(&raft.vote(serde_json::from_slice(message)?).await),
        RaftCall::Snapshot => {
            serde_json::to_vec(&raft.install_snapshot(serde_json::from_slice(message)?).await)
        }
    }
}

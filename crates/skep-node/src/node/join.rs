use std::time::Duration;

use skep_pki::{JoinError, JoinToken, TlsHandle};

use super::SwarmNode;
use super::member::{Member, internal, with_port};
use super::slot::Slot;
use crate::state::{Phase, State};
use crate::{JoinRequest, NodeError};

/// Docker's time for a join.
const JOIN_LIMIT: Duration = Duration::from_secs(20);

impl SwarmNode {
    /// Joins a swarm as a worker; returns once this host's agent has a session.
    ///
    /// # Errors
    /// [`NodeError::JoinTimeout`] leaves the host a member that goes on trying; after the others
    /// nothing of the swarm is left. A manager's token is refused: that is not possible yet.
    pub async fn join(&self, request: JoinRequest) -> Result<(), NodeError> {
        let _change = self.change.lock().await;
        if !matches!(self.slot(), Slot::Inactive | Slot::Pending) {
            return Err(NodeError::AlreadyInSwarm);
        }
        if request.remote_addrs.iter().all(|addr| addr.is_empty()) {
            return Err(NodeError::Invalid("at least 1 RemoteAddr is required to join".to_owned()));
        }
        let invalid = |e| NodeError::Invalid(format!("invalid join token: {e}"));
        let token: JoinToken = request.token.trim().parse().map_err(invalid)?;
        let resolver = self.resolver()?;
        let listen_addr = resolver.listen(&request.listen_addr)?;
        let remote_addrs: Vec<String> = request
            .remote_addrs
            .iter()
            .filter(|addr| !addr.is_empty())
            .map(|addr| with_port(addr))
            .collect();
        // A worker need not know its address: it is the one its connection comes from.
        let default = &self.config.default_advertise_addr;
        let advertise_addr = match resolver.advertise(&request.advertise_addr, default, listen_addr)
        {
            Ok(addr) => addr,
            Err(error) if !request.advertise_addr.is_empty() || !default.is_empty() => {
                return Err(error.into());
            }
            Err(error) => source_towards(&remote_addrs, listen_addr.port()).await.ok_or(error)?,
        };
        let data_path_addr = resolver.data_path(&request.data_path_addr)?;
        resolver.check_ours(listen_addr, advertise_addr, data_path_addr)?;
        let state = State {
            phase: Phase::Joining,
            listen_addr,
            advertise_addr,
            data_path_addr,
            remote_addrs,
        };
        self.put(Slot::Pending);
        match self.join_with(&request, &token, state).await {
            Ok(member) => {
                let ready = member.in_session(JOIN_LIMIT).await;
                self.activate(member);
                if ready { Ok(()) } else { Err(NodeError::JoinTimeout) }
            }
            Err(error) => {
                if let Err(error) = self.erase().await {
                    let error = skep_types::report(&error);
                    tracing::error!(
                        error,
                        "cannot clean up after a failed join; the next start tries again"
                    );
                }
                self.put(Slot::Inactive);
                Err(error)
            }
        }
    }

    async fn join_with(
        &self,
        request: &JoinRequest,
        token: &JoinToken,
        state: State,
    ) -> Result<Member, NodeError> {
        let joining = state.clone();
        self.on_disk(move |folder| folder.store(&joining)).await?;
        let joined = skep_pki::join(&state.remote_addrs, token, request.availability);
        let credentials = match tokio::time::timeout(JOIN_LIMIT, joined).await {
            Ok(joined) => joined.map_err(refused)?,
            Err(_) => {
                return Err(NodeError::Join("Timeout was reached before node joined.".to_owned()));
            }
        };
        if credentials.identity().is_manager() {
            return Err(NodeError::ManagerJoin);
        }
        let certificates = skep_pki::Store::new(self.folder.certificates());
        let store = certificates.clone();
        let credentials =
            tokio::task::spawn_blocking(move || store.save(&credentials).map(|()| credentials))
                .await
                .map_err(internal("store the node's certificate"))?
                .map_err(internal("store the node's certificate"))?;
        let state = State { phase: Phase::Member, ..state };
        let tls = TlsHandle::new(credentials);
        let member = Member::start(self, state.clone(), tls, certificates, None).await?;
        if let Err(error) = self.on_disk(move |folder| folder.store(&state)).await {
            member.stop().await;
            return Err(error);
        }
        Ok(member)
    }
}

/// A join's failure as the user should read it: the manager's own words where it answered.
fn refused(error: JoinError) -> NodeError {
    match error {
        JoinError::Refused { code: tonic::Code::Unimplemented, .. } => NodeError::ManagerJoin,
        JoinError::Refused { message, code, .. } => {
            NodeError::Join(format!("rpc error: code = {code:?} desc = {message}"))
        }
        other => NodeError::Join(skep_types::report(&other)),
    }
}

/// The address this host would use towards one of `remotes`.
async fn source_towards(remotes: &[String], port: u16) -> Option<std::net::SocketAddr> {
    for remote in remotes {
        let Ok(stream) =
            tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect(remote))
                .await
        else {
            continue;
        };
        if let Ok(local) = stream.and_then(|stream| stream.local_addr()) {
            return Some(std::net::SocketAddr::new(local.ip(), port));
        }
    }
    None
}

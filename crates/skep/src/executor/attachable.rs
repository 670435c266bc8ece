//! The swarm's attachable networks for containers that no service made.
//!
//! A container's place on such a network is a task without a container: a manager gives it an address
//! and assigns it to this node, and [`SwarmNetworks::attach`] returns once it is prepared here. The
//! task lasts as long as the engine keeps what was granted. If it does not, because a daemon was
//! killed or a manager could not be told, the task ends by itself and the manager removes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use skep_agent::ExecError;
use skep_engine::{Attachment, EngineError, NetworkGrant, NetworkProvider, NetworkWish};
use skep_node::{AttachmentRefusal, NodeError, SwarmNode};
use skep_types::{Task, TaskId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Shared;

/// How long a container waits for its place. Source: Docker's request timeout.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);

/// Pause before managers that did not answer are asked again; there may be an election.
const ASK_PAUSE: Duration = Duration::from_millis(250);

/// How long giving a place back may hold up the end of a container. The task ends by itself later.
const DETACH_LIMIT: Duration = Duration::from_secs(5);

/// Prepared places by task, or why one cannot be.
pub(crate) type Arrivals = watch::Sender<BTreeMap<TaskId, Result<Place, String>>>;

/// Where a container may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Id of the overlay.
    pub network: String,
    pub address: Ipv4Addr,
}

/// The swarm as the provider of networks for the engine's own containers.
pub struct SwarmNetworks {
    host: Arc<Shared>,
    swarm: Arc<SwarmNode>,
}

impl SwarmNetworks {
    pub(crate) fn new(host: Arc<Shared>, swarm: Arc<SwarmNode>) -> Self {
        Self { host, swarm }
    }

    /// Asks managers until one answers.
    async fn ask(&self, wish: &NetworkWish, deadline: Instant) -> Result<String, EngineError> {
        let addresses =
            wish.address.map(|address| address.to_string()).into_iter().collect::<Vec<_>>();
        loop {
            let asked =
                self.swarm.attach_network(&wish.network, &wish.container, addresses.clone());
            match timeout_at(deadline, asked).await {
                Ok(Ok(id)) => return Ok(id),
                Ok(Err(NodeError::Attachment { refusal, text })) => {
                    return Err(refused(&wish.network, refusal, &text));
                }
                Ok(Err(error))
                    if Instant::now() + ASK_PAUSE >= deadline || !self.swarm.is_member() =>
                {
                    return Err(EngineError::System {
                        what: format!("Could not attach to network {}", wish.network),
                        source: error.into(),
                    });
                }
                Ok(Err(error)) => {
                    tracing::debug!(network = wish.network, %error, "asking again for a place")
                }
                Err(_) => return Err(late("no manager answers")),
            }
            sleep(ASK_PAUSE).await;
        }
    }

    /// Waits until the task of this id is prepared on this host.
    async fn arrival(&self, id: &str, deadline: Instant) -> Result<Place, EngineError> {
        let id = TaskId::from(id);
        let mut arrivals = self.host.arrivals.subscribe();
        let arrived = async {
            let all = arrivals.wait_for(|all| all.contains_key(&id)).await.ok()?;
            all.get(&id).cloned()
        };
        match timeout_at(deadline, arrived).await.ok().flatten() {
            Some(Ok(place)) => Ok(place),
            Some(Err(reason)) => {
                Err(EngineError::Unavailable(format!("attaching to network failed: {reason}")))
            }
            None => Err(late(&self.trouble(&id).await)),
        }
    }

    /// What keeps the task, as far as this host can see.
    async fn trouble(&self, id: &TaskId) -> String {
        let unknown = "context deadline exceeded".to_owned();
        let Ok(control) = self.swarm.control() else { return unknown };
        match control.get_task(id.as_str()).await {
            Ok(task) if !task.status.err.is_empty() => task.status.err,
            _ => unknown,
        }
    }

    async fn give_back(&self, id: &str) {
        match timeout(DETACH_LIMIT, self.swarm.detach_network(id)).await {
            Ok(
                Ok(())
                | Err(
                    NodeError::Attachment { refusal: AttachmentRefusal::NotFound, .. }
                    | NodeError::NotInSwarm,
                ),
            ) => {}
            Ok(Err(error)) => {
                tracing::warn!(attachment = id, %error, "a network attachment is given back later");
            }
            Err(_) => tracing::warn!(attachment = id, "a network attachment is given back later"),
        }
    }
}

impl NetworkProvider for SwarmNetworks {
    fn has_networks(&self) -> bool {
        self.swarm.is_member()
    }

    fn attach<'a>(
        &'a self,
        wish: &'a NetworkWish,
    ) -> BoxFuture<'a, Result<NetworkGrant, EngineError>> {
        async move {
            if !self.swarm.is_member() {
                return Err(refused(&wish.network, AttachmentRefusal::NotFound, ""));
            }
            let deadline = Instant::now() + ATTACH_LIMIT;
            let id = self.ask(wish, deadline).await?;
            match self.arrival(&id, deadline).await {
                Ok(place) => {
                    Ok(NetworkGrant { id, network: place.network, address: place.address })
                }
                Err(error) => {
                    self.give_back(&id).await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn detach<'a>(&'a self, grant: &'a NetworkGrant) -> BoxFuture<'a, ()> {
        self.give_back(&grant.id).boxed()
    }
}

/// A manager's refusal in Docker's words.
fn refused(network: &str, refusal: AttachmentRefusal, text: &str) -> EngineError {
    let words = |code| {
        format!("Could not attach to network {network}: rpc error: code = {code} desc = {text}")
    };
    match refusal {
        AttachmentRefusal::NotFound => {
            EngineError::NotFound(format!("network {network} not found"))
        }
        AttachmentRefusal::PermissionDenied => EngineError::Forbidden(words("PermissionDenied")),
        AttachmentRefusal::InvalidArgument => EngineError::Invalid(words("InvalidArgument")),
    }
}

/// No place in time, in Docker's words.
fn late(reason: &str) -> EngineError {
    EngineError::Unavailable(format!(
        "attaching to network failed, make sure your network options are correct and check manager logs: {reason}"
    ))
}

/// Tells the container that waits for it what became of its task's preparation.
pub(super) fn announce(
    host: &Shared,
    task: &Task,
    prepared: Result<Vec<Attachment>, ExecError>,
) -> Result<(), ExecError> {
    let (arrival, result) = match prepared {
        // It will be tried again.
        Err(error @ ExecError::Temporary { .. }) => return Err(error),
        Err(error) => (Err(skep_engine::report(&error)), Err(error)),
        Ok(attachments) => match attachments.first().and_then(place) {
            Some(place) => (Ok(place), Ok(())),
            None => {
                let error = ExecError::refused("the task has no address on a network of the swarm");
                (Err(error.to_string()), Err(error))
            }
        },
    };
    host.arrivals.send_modify(|all| {
        all.insert(task.id.clone(), arrival);
    });
    result
}

fn place(attachment: &Attachment) -> Option<Place> {
    let address = attachment.spec().ok()?.ipv4?;
    Some(Place { network: attachment.network.clone(), address })
}

/// Returns once the container of the task does not keep its place, and then never will again.
pub(super) async fn until_let_go(host: &Shared, task: &Task) {
    let Some(spec) = &task.spec.network_attachment_spec else { return };
    let mut grants = host.engine.network_grants();
    loop {
        grants.borrow_and_update();
        if !host.engine.keeps_network_grant(&spec.container_id, task.id.as_str()) {
            return;
        }
        if grants.changed().await.is_err() {
            // The engine is gone, and the daemon with it.
            return std::future::pending().await;
        }
    }
}

/// The task goes: so does its container's place, should it still be kept.
pub(super) async fn remove(host: &Shared, task: &Task) -> Result<(), ExecError> {
    let Some(spec) = &task.spec.network_attachment_spec else { return Ok(()) };
    host.engine
        .withdraw_network_grant(&spec.container_id, task.id.as_str())
        .await
        .map_err(|source| ExecError::temporary("take the container off the network", source))?;
    host.arrivals.send_if_modified(|all| all.remove(&task.id).is_some());
    // It may have been the last one that needed the overlay.
    host.forget_overlays().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_engine::ErrorKind;

    #[test]
    fn refusals_are_docker_s() {
        let denied = refused(
            "net",
            AttachmentRefusal::PermissionDenied,
            "network net not manually attachable",
        );
        assert_eq!(denied.kind(), ErrorKind::Forbidden);
        assert_eq!(
            denied.to_string(),
            "Could not attach to network net: rpc error: code = PermissionDenied desc = network net not manually attachable"
        );
        let missing = refused("net", AttachmentRefusal::NotFound, "whatever");
        assert_eq!(
            (missing.kind(), missing.to_string()),
            (ErrorKind::NotFound, "network net not found".into())
        );
    }

    #[test]
    fn a_place_has_an_address() {
        let address = Ipv4Addr::new(10, 0, 1, 5);
        let there = place(&Attachment::new("id").with_address(address));
        assert_eq!(there, Some(Place { network: "id".into(), address }));
        assert_eq!(place(&Attachment::new("bridge")), None);
    }
}

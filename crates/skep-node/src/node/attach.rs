use std::time::Duration;

use skep_pki::MANAGER_SERVER_NAME;
use skep_proto::v1;
use skep_proto::v1::resource_allocator_client::ResourceAllocatorClient;
use skep_types::NetworkAttachmentConfig;
use tonic::transport::Channel;

use super::SwarmNode;
use super::member::{Member, internal};
use super::slot::Slot;
use crate::{AttachmentRefusal, NodeError};

/// Time for one call to a manager.
const CALL_LIMIT: Duration = Duration::from_secs(20);

impl SwarmNode {
    /// Asks the swarm for addresses on an attachable network for a container outside any service.
    /// Returns the id of the attachment, which is a task's: the executor receives that task, with
    /// `spec.network_attachment_spec` and its addresses filled in.
    ///
    /// # Errors
    /// [`NodeError::Attachment`] when a manager refuses (unknown or not attachable network); others
    /// when none answers, which may be better later.
    pub async fn attach_network(
        &self,
        network: &str,
        container_id: &str,
        addresses: Vec<String>,
    ) -> Result<String, NodeError> {
        let config = NetworkAttachmentConfig {
            target: network.to_owned(),
            addresses,
            ..NetworkAttachmentConfig::default()
        };
        let request = v1::AttachNetworkRequest {
            config: Some((&config).into()),
            container_id: container_id.to_owned(),
        };
        let member = self.member()?;
        let mut client = ResourceAllocatorClient::new(channel(&member).await?);
        let answer = tokio::time::timeout(CALL_LIMIT, client.attach_network(request)).await;
        let answer = answer.map_err(internal("attach to the network"))?.map_err(refused)?;
        Ok(answer.into_inner().attachment_id)
    }

    /// Gives up what [`SwarmNode::attach_network`] gave.
    pub async fn detach_network(&self, attachment_id: &str) -> Result<(), NodeError> {
        let request = v1::DetachNetworkRequest { attachment_id: attachment_id.to_owned() };
        let member = self.member()?;
        let mut client = ResourceAllocatorClient::new(channel(&member).await?);
        let answer = tokio::time::timeout(CALL_LIMIT, client.detach_network(request)).await;
        answer.map_err(internal("detach from the network"))?.map_err(refused)?;
        Ok(())
    }

    fn member(&self) -> Result<std::sync::Arc<Member>, NodeError> {
        match self.slot() {
            Slot::Active(member) => Ok(member),
            _ => Err(NodeError::NotInSwarm),
        }
    }
}

/// A connection to the first manager that answers.
async fn channel(member: &Member) -> Result<Channel, NodeError> {
    let managers = match member.view() {
        Some(view) => view.managers.iter().map(|manager| manager.addr.clone()).collect(),
        None => member.state.remote_addrs.clone(),
    };
    let tls = member.tls.client_config().map_err(internal("connect to a manager"))?;
    let mut last = internal("connect to a manager")("none is known");
    for addr in managers {
        match skep_pki::connect(&addr, MANAGER_SERVER_NAME, tls.clone()).await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = internal("connect to a manager")(error),
        }
    }
    Err(last)
}

fn refused(status: tonic::Status) -> NodeError {
    let refusal = match status.code() {
        tonic::Code::NotFound => AttachmentRefusal::NotFound,
        tonic::Code::PermissionDenied => AttachmentRefusal::PermissionDenied,
        tonic::Code::InvalidArgument => AttachmentRefusal::InvalidArgument,
        _ => return internal("change the network attachment")(status),
    };
    NodeError::Attachment { refusal, text: status.message().to_owned() }
}

use std::sync::Arc;

use skep_control::admission;
use skep_proto::v1;
use skep_types::{NetworkAttachmentConfig, TaskId};
use tonic::{Request, Response, Status};

use super::status;
use crate::auth::{Allowed, caller};
use crate::chance;
use crate::control::ControlError;
use crate::shared::Shared;

/// Addresses for containers outside any service.
pub(super) struct ResourceAllocator(pub Arc<Shared>);

#[tonic::async_trait]
impl v1::resource_allocator_server::ResourceAllocator for ResourceAllocator {
    async fn attach_network(
        &self,
        request: Request<v1::AttachNetworkRequest>,
    ) -> Result<Response<v1::AttachNetworkResponse>, Status> {
        let node = caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id;
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no network given"))?;
        let config = NetworkAttachmentConfig::from(config);
        let written = self.0.writer.write(move |store, now| {
            let container = request.container_id;
            let attached =
                admission::attach_network(store, &node, config, container, now, &mut chance::fill);
            let (task, actions) = attached.map_err(ControlError::from)?;
            Ok::<_, ControlError>((actions, task))
        });
        let (_, task) = written.await.map_err(status::write)?.map_err(status::control)?;
        Ok(Response::new(v1::AttachNetworkResponse { attachment_id: task.to_string() }))
    }

    async fn detach_network(
        &self,
        request: Request<v1::DetachNetworkRequest>,
    ) -> Result<Response<v1::DetachNetworkResponse>, Status> {
        let node = caller(&self.0, &request, Allowed::WorkersAndManagers)?.node_id;
        let attachment = TaskId::from(request.into_inner().attachment_id);
        let written = self.0.writer.write(move |store, now| {
            let actions = admission::detach_network(store, &node, &attachment, now);
            Ok::<_, ControlError>((actions.map_err(ControlError::from)?, ()))
        });
        written.await.map_err(status::write)?.map_err(status::control)?;
        Ok(Response::new(v1::DetachNetworkResponse {}))
    }
}

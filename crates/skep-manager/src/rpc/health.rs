use std::sync::Arc;

use skep_proto::v1;
use tonic::{Request, Response, Status};
use v1::health_check_response::ServingStatus;

use crate::auth::{Allowed, caller};
use crate::shared::Shared;

/// Docker Swarm's own health service.
pub(super) struct Health(pub Arc<Shared>);

#[tonic::async_trait]
impl v1::health_server::Health for Health {
    async fn check(
        &self,
        request: Request<v1::HealthCheckRequest>,
    ) -> Result<Response<v1::HealthCheckResponse>, Status> {
        caller(&self.0, &request, Allowed::Managers)?;
        let status = match request.get_ref().service.as_str() {
            "" => ServingStatus::Serving,
            "Raft" if self.0.raft.metrics().borrow().current_leader.is_some() => {
                ServingStatus::Serving
            }
            "Raft" => ServingStatus::NotServing,
            other => return Err(Status::not_found(format!("unknown service {other:?}"))),
        };
        Ok(Response::new(v1::HealthCheckResponse { status: status.into() }))
    }
}

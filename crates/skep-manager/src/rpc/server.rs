use std::sync::Arc;
use std::time::Duration;

use skep_pki::TlsIncoming;
use skep_proto::{MAX_REQUEST_BYTES, v1};
use tonic::transport::Server;

use super::ca::Ca;
use super::control::ControlRpc;
use super::dispatcher::Dispatcher;
use super::gate::Gate;
use super::health::Health;
use super::log_broker::Logs;
use super::raft::RaftService;
use super::resource::ResourceAllocator;
use crate::shared::Shared;

/// A connection on which nothing comes is asked for a sign of life this often, and given up without one:
/// a host that lost its power says no goodbye. Unlike servers, clients of gRPC accept being asked.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(20);

/// Largest request, bytes, of calls whose content the swarm keeps for strangers and workers.
const SMALL_REQUEST: usize = 64 << 10;

/// Serves the remote API until the manager stops; streams under way end then.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    incoming: TlsIncoming,
) -> Result<(), tonic::transport::Error> {
    let ca = Ca(shared.clone());
    let logs = Logs(shared.clone());
    let stop = shared.stop.clone();
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .layer(Gate(shared.clone()))
        .add_service(
            v1::ca_server::CaServer::new(ca.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            v1::node_ca_server::NodeCaServer::new(ca).max_decoding_message_size(SMALL_REQUEST),
        )
        .add_service(
            v1::dispatcher_server::DispatcherServer::new(Dispatcher(shared.clone()))
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            v1::resource_allocator_server::ResourceAllocatorServer::new(ResourceAllocator(
                shared.clone(),
            ))
            .max_decoding_message_size(SMALL_REQUEST),
        )
        .add_service(
            v1::log_broker_server::LogBrokerServer::new(logs.clone())
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            v1::logs_server::LogsServer::new(logs).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            v1::health_server::HealthServer::new(Health(shared.clone()))
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            v1::control_server::ControlServer::new(ControlRpc::new(shared.clone()))
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(RaftService { shared })
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

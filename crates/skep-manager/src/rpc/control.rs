use std::sync::Arc;

use skep_proto::v1;
use skep_types::{
    ClusterSpec, ConfigSpec, NetworkSpec, NodeMembership, NodeRole, NodeSpec, SecretSpec,
    ServiceSpec,
};
use tonic::{Request, Response, Status};

use super::convert::{Common as _, labels, version};
use super::status;
use crate::auth::{Allowed, caller};
use crate::control::{
    ClusterUpdate, Control, DesiredStateFilter, Filter, NodeFilter, ServiceFilter, ServiceUpdate,
    TaskFilter,
};
use crate::shared::Shared;

/// The remote control API: the in-process one for another manager's door.
pub(super) struct ControlRpc {
    shared: Arc<Shared>,
    control: Control,
}

impl ControlRpc {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { control: Control::new(&shared), shared }
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// A field that the sender must set.
fn given<T>(field: Option<T>, name: &str) -> Result<T, Status> {
    field.ok_or_else(|| Status::invalid_argument(format!("{name} is missing")))
}

fn nothing<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("this swarm has no {what}")))
}

/// Each call: only managers, then the body with the message.
macro_rules! calls {
    ($($name:ident($self:ident, $message:ident: $request:ident) -> $answer:ident $body:block)*) => {
        #[tonic::async_trait]
        impl v1::control_server::Control for ControlRpc {
            $(
                async fn $name(&self, request: Request<v1::$request>) -> Answer<v1::$answer> {
                    caller(&self.shared, &request, Allowed::Managers)?;
                    let $self = self;
                    let $message = request.into_inner();
                    let answer: Result<v1::$answer, Status> = async { $body }.await;
                    answer.map(Response::new)
                }
            )*

            async fn get_extension(&self, _: Request<v1::GetExtensionRequest>) -> Answer<v1::GetExtensionResponse> {
                nothing("extensions")
            }
            async fn create_extension(&self, _: Request<v1::CreateExtensionRequest>) -> Answer<v1::CreateExtensionResponse> {
                nothing("extensions")
            }
            async fn remove_extension(&self, _: Request<v1::RemoveExtensionRequest>) -> Answer<v1::RemoveExtensionResponse> {
                nothing("extensions")
            }
            async fn get_resource(&self, _: Request<v1::GetResourceRequest>) -> Answer<v1::GetResourceResponse> {
                nothing("extension resources")
            }
            async fn update_resource(&self, _: Request<v1::UpdateResourceRequest>) -> Answer<v1::UpdateResourceResponse> {
                nothing("extension resources")
            }
            async fn list_resources(&self, _: Request<v1::ListResourcesRequest>) -> Answer<v1::ListResourcesResponse> {
                nothing("extension resources")
            }
            async fn create_resource(&self, _: Request<v1::CreateResourceRequest>) -> Answer<v1::CreateResourceResponse> {
                nothing("extension resources")
            }
            async fn remove_resource(&self, _: Request<v1::RemoveResourceRequest>) -> Answer<v1::RemoveResourceResponse> {
                nothing("extension resources")
            }
            async fn create_volume(&self, _: Request<v1::CreateVolumeRequest>) -> Answer<v1::CreateVolumeResponse> {
                nothing("cluster volumes")
            }
            async fn get_volume(&self, _: Request<v1::GetVolumeRequest>) -> Answer<v1::GetVolumeResponse> {
                nothing("cluster volumes")
            }
            async fn update_volume(&self, _: Request<v1::UpdateVolumeRequest>) -> Answer<v1::UpdateVolumeResponse> {
                nothing("cluster volumes")
            }
            async fn list_volumes(&self, _: Request<v1::ListVolumesRequest>) -> Answer<v1::ListVolumesResponse> {
                nothing("cluster volumes")
            }
            async fn remove_volume(&self, _: Request<v1::RemoveVolumeRequest>) -> Answer<v1::RemoveVolumeResponse> {
                nothing("cluster volumes")
            }
        }
    };
}

calls! {
    get_node(this, m: GetNodeRequest) -> GetNodeResponse {
        let node = this.control.get_node(&m.node_id).await.map_err(status::control)?;
        Ok(v1::GetNodeResponse { node: Some((&node).into()) })
    }
    list_nodes(this, m: ListNodesRequest) -> ListNodesResponse {
        let nodes = this.control.list_nodes(&node_filter(m.filters.unwrap_or_default())?).await;
        let nodes = nodes.map_err(status::control)?;
        Ok(v1::ListNodesResponse { nodes: nodes.iter().map(Into::into).collect() })
    }
    update_node(this, m: UpdateNodeRequest) -> UpdateNodeResponse {
        let spec = NodeSpec::try_from(given(m.spec, "spec")?).map_err(status::convert)?;
        let node = this.control.update_node(&m.node_id, version(m.node_version), spec).await;
        Ok(v1::UpdateNodeResponse { node: Some((&node.map_err(status::control)?).into()) })
    }
    remove_node(this, m: RemoveNodeRequest) -> RemoveNodeResponse {
        this.control.remove_node(&m.node_id, m.force).await.map_err(status::control)?;
        Ok(v1::RemoveNodeResponse {})
    }
    get_task(this, m: GetTaskRequest) -> GetTaskResponse {
        let task = this.control.get_task(&m.task_id).await.map_err(status::control)?;
        Ok(v1::GetTaskResponse { task: Some((&task).into()) })
    }
    list_tasks(this, m: ListTasksRequest) -> ListTasksResponse {
        let filter = task_filter(m.filters.unwrap_or_default())?;
        let tasks = this.control.list_tasks(&filter).await.map_err(status::control)?;
        Ok(v1::ListTasksResponse { tasks: tasks.iter().map(Into::into).collect() })
    }
    remove_task(this, m: RemoveTaskRequest) -> RemoveTaskResponse {
        this.control.remove_task(&m.task_id).await.map_err(status::control)?;
        Ok(v1::RemoveTaskResponse {})
    }
    get_service(this, m: GetServiceRequest) -> GetServiceResponse {
        let service = this.control.get_service(&m.service_id, m.insert_defaults).await;
        Ok(v1::GetServiceResponse { service: Some((&service.map_err(status::control)?).into()) })
    }
    list_services(this, m: ListServicesRequest) -> ListServicesResponse {
        let common = m.filters.unwrap_or_default().common();
        let filter = ServiceFilter { common, modes: Vec::new() };
        let services = this.control.list_services(&filter).await.map_err(status::control)?;
        Ok(v1::ListServicesResponse { services: services.iter().map(Into::into).collect() })
    }
    create_service(this, m: CreateServiceRequest) -> CreateServiceResponse {
        let spec = ServiceSpec::try_from(given(m.spec, "spec")?).map_err(status::convert)?;
        let service = this.control.create_service(spec).await.map_err(status::control)?;
        Ok(v1::CreateServiceResponse { service: Some((&service).into()) })
    }
    update_service(this, m: UpdateServiceRequest) -> UpdateServiceResponse {
        let rollback = m.rollback == i32::from(v1::update_service_request::Rollback::Previous);
        let update = ServiceUpdate {
            version: version(m.service_version),
            spec: m.spec.map(ServiceSpec::try_from).transpose().map_err(status::convert)?.unwrap_or_default(),
            registry_auth: crate::control::RegistryAuth::FromSpec,
            rollback,
        };
        let service = this.control.update_service(&m.service_id, update).await;
        Ok(v1::UpdateServiceResponse { service: Some((&service.map_err(status::control)?).into()) })
    }
    remove_service(this, m: RemoveServiceRequest) -> RemoveServiceResponse {
        this.control.remove_service(&m.service_id).await.map_err(status::control)?;
        Ok(v1::RemoveServiceResponse {})
    }
    list_service_statuses(this, m: ListServiceStatusesRequest) -> ListServiceStatusesResponse {
        let ids: Vec<_> = m.services.into_iter().map(Into::into).collect();
        let counts = this.control.service_task_counts(&ids).await.map_err(status::control)?;
        let statuses = counts.into_iter().map(|(id, counts)| {
            v1::list_service_statuses_response::ServiceStatus {
                service_id: id.into(),
                desired_tasks: counts.desired,
                running_tasks: counts.running,
                completed_tasks: counts.completed,
            }
        });
        Ok(v1::ListServiceStatusesResponse { statuses: statuses.collect() })
    }
    get_network(this, m: GetNetworkRequest) -> GetNetworkResponse {
        let reference = if m.network_id.is_empty() { m.name } else { m.network_id };
        let network = this.control.get_network(&reference).await.map_err(status::control)?;
        Ok(v1::GetNetworkResponse { network: Some((&network).into()) })
    }
    list_networks(this, m: ListNetworksRequest) -> ListNetworksResponse {
        let filter = m.filters.unwrap_or_default().common();
        let networks = this.control.list_networks(&filter).await.map_err(status::control)?;
        Ok(v1::ListNetworksResponse { networks: networks.iter().map(Into::into).collect() })
    }
    create_network(this, m: CreateNetworkRequest) -> CreateNetworkResponse {
        let spec = NetworkSpec::from(given(m.spec, "spec")?);
        let network = this.control.create_network(spec).await.map_err(status::control)?;
        Ok(v1::CreateNetworkResponse { network: Some((&network).into()) })
    }
    remove_network(this, m: RemoveNetworkRequest) -> RemoveNetworkResponse {
        let reference = if m.network_id.is_empty() { m.name } else { m.network_id };
        this.control.remove_network(&reference).await.map_err(status::control)?;
        Ok(v1::RemoveNetworkResponse {})
    }
    get_cluster(this, m: GetClusterRequest) -> GetClusterResponse {
        let cluster = this.control.cluster().await.map_err(status::control)?;
        if cluster.id.as_str() != m.cluster_id {
            return Err(Status::not_found(format!("cluster {} not found", m.cluster_id)));
        }
        Ok(v1::GetClusterResponse { cluster: Some((&cluster).into()) })
    }
    list_clusters(this, _m: ListClustersRequest) -> ListClustersResponse {
        let cluster = this.control.cluster().await.map_err(status::control)?;
        Ok(v1::ListClustersResponse { clusters: vec![(&cluster).into()] })
    }
    update_cluster(this, m: UpdateClusterRequest) -> UpdateClusterResponse {
        let rotation = m.rotation.unwrap_or_default();
        let update = ClusterUpdate {
            version: version(m.cluster_version),
            spec: ClusterSpec::try_from(given(m.spec, "spec")?).map_err(status::convert)?,
            rotate_worker_token: rotation.worker_join_token,
            rotate_manager_token: rotation.manager_join_token,
            rotate_manager_unlock_key: rotation.manager_unlock_key,
        };
        let cluster = this.control.update_cluster(update).await.map_err(status::control)?;
        Ok(v1::UpdateClusterResponse { cluster: Some((&cluster).into()) })
    }
    get_secret(this, m: GetSecretRequest) -> GetSecretResponse {
        let secret = this.control.get_secret(&m.secret_id).await.map_err(status::control)?;
        Ok(v1::GetSecretResponse { secret: Some((&secret).into()) })
    }
    update_secret(this, m: UpdateSecretRequest) -> UpdateSecretResponse {
        let spec = SecretSpec::from(given(m.spec, "spec")?);
        let secret = this.control.update_secret(&m.secret_id, version(m.secret_version), spec).await;
        Ok(v1::UpdateSecretResponse { secret: Some((&secret.map_err(status::control)?).into()) })
    }
    list_secrets(this, m: ListSecretsRequest) -> ListSecretsResponse {
        let filter = m.filters.unwrap_or_default().common();
        let secrets = this.control.list_secrets(&filter).await.map_err(status::control)?;
        Ok(v1::ListSecretsResponse { secrets: secrets.iter().map(Into::into).collect() })
    }
    create_secret(this, m: CreateSecretRequest) -> CreateSecretResponse {
        let spec = SecretSpec::from(given(m.spec, "spec")?);
        let secret = this.control.create_secret(spec).await.map_err(status::control)?;
        Ok(v1::CreateSecretResponse { secret: Some((&secret).into()) })
    }
    remove_secret(this, m: RemoveSecretRequest) -> RemoveSecretResponse {
        this.control.remove_secret(&m.secret_id).await.map_err(status::control)?;
        Ok(v1::RemoveSecretResponse {})
    }
    get_config(this, m: GetConfigRequest) -> GetConfigResponse {
        let config = this.control.get_config(&m.config_id).await.map_err(status::control)?;
        Ok(v1::GetConfigResponse { config: Some((&config).into()) })
    }
    update_config(this, m: UpdateConfigRequest) -> UpdateConfigResponse {
        let spec = ConfigSpec::from(given(m.spec, "spec")?);
        let config = this.control.update_config(&m.config_id, version(m.config_version), spec).await;
        Ok(v1::UpdateConfigResponse { config: Some((&config.map_err(status::control)?).into()) })
    }
    list_configs(this, m: ListConfigsRequest) -> ListConfigsResponse {
        let filter = m.filters.unwrap_or_default().common();
        let configs = this.control.list_configs(&filter).await.map_err(status::control)?;
        Ok(v1::ListConfigsResponse { configs: configs.iter().map(Into::into).collect() })
    }
    create_config(this, m: CreateConfigRequest) -> CreateConfigResponse {
        let spec = ConfigSpec::from(given(m.spec, "spec")?);
        let config = this.control.create_config(spec).await.map_err(status::control)?;
        Ok(v1::CreateConfigResponse { config: Some((&config).into()) })
    }
    remove_config(this, m: RemoveConfigRequest) -> RemoveConfigResponse {
        this.control.remove_config(&m.config_id).await.map_err(status::control)?;
        Ok(v1::RemoveConfigResponse {})
    }
}

fn node_filter(filters: v1::list_nodes_request::Filters) -> Result<NodeFilter, Status> {
    let roles = filters.roles.into_iter().map(|role| {
        v1::NodeRole::try_from(role)
            .map(NodeRole::from)
            .map_err(|_| Status::invalid_argument(format!("unknown role {role}")))
    });
    let memberships = filters.memberships.into_iter().map(|membership| {
        v1::node_spec::Membership::try_from(membership)
            .map(NodeMembership::from)
            .map_err(|_| Status::invalid_argument(format!("unknown membership {membership}")))
    });
    Ok(NodeFilter {
        common: Filter {
            id_prefixes: filters.id_prefixes,
            name_prefixes: filters.name_prefixes.into_iter().chain(filters.names).collect(),
            names: Vec::new(),
            labels: labels(filters.labels),
        },
        node_labels: labels(filters.node_labels),
        roles: roles.collect::<Result<_, _>>()?,
        memberships: memberships.collect::<Result<_, _>>()?,
    })
}

fn task_filter(filters: v1::list_tasks_request::Filters) -> Result<TaskFilter, Status> {
    let states =
        filters.desired_states.into_iter().map(|state| match v1::TaskState::try_from(state) {
            Ok(v1::TaskState::Running) => Ok(DesiredStateFilter::Running),
            Ok(v1::TaskState::Shutdown) => Ok(DesiredStateFilter::Shutdown),
            Ok(v1::TaskState::Accepted) => Ok(DesiredStateFilter::Accepted),
            _ => Err(Status::invalid_argument(format!("unknown desired state {state}"))),
        });
    Ok(TaskFilter {
        common: Filter {
            id_prefixes: filters.id_prefixes,
            name_prefixes: filters.name_prefixes.into_iter().chain(filters.names).collect(),
            names: Vec::new(),
            labels: labels(filters.labels),
        },
        services: filters.service_ids,
        nodes: filters.node_ids,
        desired_states: states.collect::<Result<_, _>>()?,
        up_to_date: filters.up_to_date,
    })
}

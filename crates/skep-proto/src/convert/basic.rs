//! Versions, annotations, drivers, resources and ports.

use skep_types as t;

use super::util::{Result, into_list, known, list, timestamp_or_zero, timestamp_unless_zero};
use crate::{ConvertError, v1 as pb};

impl From<&t::Version> for pb::Version {
    fn from(version: &t::Version) -> Self {
        Self { index: version.index }
    }
}

impl From<pb::Version> for t::Version {
    fn from(version: pb::Version) -> Self {
        Self { index: version.index }
    }
}

impl From<&t::Meta> for pb::Meta {
    fn from(meta: &t::Meta) -> Self {
        Self {
            version: Some((&meta.version).into()),
            created_at: timestamp_unless_zero(meta.created_at),
            updated_at: timestamp_unless_zero(meta.updated_at),
        }
    }
}

impl TryFrom<pb::Meta> for t::Meta {
    type Error = ConvertError;

    fn try_from(meta: pb::Meta) -> Result<Self> {
        Ok(Self {
            version: meta.version.unwrap_or_default().into(),
            created_at: timestamp_or_zero("created_at", meta.created_at)?,
            updated_at: timestamp_or_zero("updated_at", meta.updated_at)?,
        })
    }
}

impl From<&t::Annotations> for pb::Annotations {
    fn from(a: &t::Annotations) -> Self {
        Self { name: a.name.clone(), labels: a.labels.clone(), indices: Vec::new() }
    }
}

impl From<pb::Annotations> for t::Annotations {
    fn from(a: pb::Annotations) -> Self {
        Self { name: a.name, labels: a.labels }
    }
}

impl From<&t::Driver> for pb::Driver {
    fn from(driver: &t::Driver) -> Self {
        Self { name: driver.name.clone(), options: driver.options.clone() }
    }
}

impl From<pb::Driver> for t::Driver {
    fn from(driver: pb::Driver) -> Self {
        Self { name: driver.name, options: driver.options }
    }
}

impl From<&t::GenericResource> for pb::GenericResource {
    /// A resource with neither form set stays empty.
    fn from(resource: &t::GenericResource) -> Self {
        use pb::generic_resource::Resource;
        let named = resource.named_resource_spec.as_ref().map(|r| {
            Resource::NamedResourceSpec(pb::NamedGenericResource {
                kind: r.kind.clone(),
                value: r.value.clone(),
            })
        });
        let discrete = resource.discrete_resource_spec.as_ref().map(|r| {
            Resource::DiscreteResourceSpec(pb::DiscreteGenericResource {
                kind: r.kind.clone(),
                value: r.value,
            })
        });
        Self { resource: named.or(discrete) }
    }
}

impl From<pb::GenericResource> for t::GenericResource {
    fn from(resource: pb::GenericResource) -> Self {
        use pb::generic_resource::Resource;
        match resource.resource {
            Some(Resource::NamedResourceSpec(r)) => Self {
                named_resource_spec: Some(t::NamedGenericResource { kind: r.kind, value: r.value }),
                discrete_resource_spec: None,
            },
            Some(Resource::DiscreteResourceSpec(r)) => Self {
                named_resource_spec: None,
                discrete_resource_spec: Some(t::DiscreteGenericResource {
                    kind: r.kind,
                    value: r.value,
                }),
            },
            None => Self::default(),
        }
    }
}

impl From<&t::Resources> for pb::Resources {
    fn from(resources: &t::Resources) -> Self {
        Self {
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
            generic: list(&resources.generic_resources),
        }
    }
}

impl From<pb::Resources> for t::Resources {
    fn from(resources: pb::Resources) -> Self {
        Self {
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
            generic_resources: into_list(resources.generic),
        }
    }
}

impl From<&t::PortConfig> for pb::PortConfig {
    fn from(port: &t::PortConfig) -> Self {
        Self {
            name: port.name.clone(),
            protocol: pb::port_config::Protocol::from(port.protocol).into(),
            target_port: port.target_port,
            published_port: port.published_port,
            publish_mode: pb::port_config::PublishMode::from(port.publish_mode).into(),
        }
    }
}

impl TryFrom<pb::PortConfig> for t::PortConfig {
    type Error = ConvertError;

    fn try_from(port: pb::PortConfig) -> Result<Self> {
        use pb::port_config::{Protocol, PublishMode};
        Ok(Self {
            name: port.name,
            protocol: known::<Protocol, _>("protocol", "protocol", port.protocol)?,
            target_port: port.target_port,
            published_port: port.published_port,
            publish_mode: known::<PublishMode, _>(
                "publish_mode",
                "publish mode",
                port.publish_mode,
            )?,
        })
    }
}

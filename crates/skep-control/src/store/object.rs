use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_types::{
    Cluster, ClusterId, Config, ConfigId, Meta, Network, NetworkId, Node, NodeId, Secret, SecretId,
    Service, ServiceId, Task, TaskId,
};

/// The kinds of objects, in the order in which a batch writes them: what others refer to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Cluster,
    Network,
    Secret,
    Config,
    Service,
    Node,
    Task,
}

impl Kind {
    /// The word users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Service => "service",
            Self::Node => "node",
            Self::Task => "task",
        }
    }
}

macro_rules! objects {
    ($($kind:ident $id:ident),* $(,)?) => {
        /// Any object of the store. Shared, so that handing one on costs a reference count.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Object {
            $($kind(Arc<$kind>),)*
        }

        /// Kind and id of an object.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ObjectKey {
            $($kind($id),)*
        }

        impl Object {
            pub fn key(&self) -> ObjectKey {
                match self {
                    $(Self::$kind(object) => ObjectKey::$kind(object.id.clone()),)*
                }
            }

            pub fn meta(&self) -> &Meta {
                match self {
                    $(Self::$kind(object) => &object.meta,)*
                }
            }

            /// Changes the notes of the store; copies the object if it is shared.
            pub(crate) fn meta_mut(&mut self) -> &mut Meta {
                match self {
                    $(Self::$kind(object) => &mut Arc::make_mut(object).meta,)*
                }
            }
        }

        impl ObjectKey {
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            pub fn id(&self) -> &str {
                match self {
                    $(Self::$kind(id) => id.as_str(),)*
                }
            }
        }

        $(
            impl From<$kind> for Object {
                fn from(object: $kind) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }

            impl From<Arc<$kind>> for Object {
                fn from(object: Arc<$kind>) -> Self {
                    Self::$kind(object)
                }
            }

            impl From<$id> for ObjectKey {
                fn from(id: $id) -> Self {
                    Self::$kind(id)
                }
            }
        )*
    };
}

objects! {
    Cluster ClusterId,
    Network NetworkId,
    Secret SecretId,
    Config ConfigId,
    Service ServiceId,
    Node NodeId,
    Task TaskId,
}

impl Object {
    /// The user's name for the object; empty for tasks without an own one.
    pub fn name(&self) -> &str {
        match self {
            Self::Cluster(o) => &o.spec.annotations.name,
            Self::Network(o) => &o.spec.annotations.name,
            Self::Secret(o) => &o.spec.annotations.name,
            Self::Config(o) => &o.spec.annotations.name,
            Self::Service(o) => &o.spec.annotations.name,
            Self::Node(o) => &o.spec.annotations.name,
            Self::Task(o) => &o.annotations.name,
        }
    }
}

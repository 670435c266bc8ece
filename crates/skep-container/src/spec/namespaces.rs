//! Which namespaces a container has of its own.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

/// Where one namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one for this container.
    #[default]
    New,
    /// The host's.
    Host,
    /// An existing one, by a path such as `/proc/<pid>/ns/net`.
    Join(PathBuf),
}

/// All of a container's. The mount namespace is always new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    pub pid: Namespace,
    pub network: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    /// Docker's default: the host's on cgroup version 1, a new one on version 2.
    pub cgroup: Namespace,
}

impl Namespaces {
    /// As the spec wants it.
    pub fn to_spec(&self) -> Vec<LinuxNamespace> {
        let own = Namespace::New;
        [
            (LinuxNamespaceType::Mount, &own),
            (LinuxNamespaceType::Pid, &self.pid),
            (LinuxNamespaceType::Network, &self.network),
            (LinuxNamespaceType::Ipc, &self.ipc),
            (LinuxNamespaceType::Uts, &self.uts),
            (LinuxNamespaceType::Cgroup, &self.cgroup),
        ]
        .into_iter()
        .filter_map(|(kind, from)| {
            let builder = LinuxNamespaceBuilder::default().typ(kind);
            match from {
                Namespace::Host => None,
                Namespace::New => builder.build().ok(),
                Namespace::Join(path) => builder.path(path).build().ok(),
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_are_left_out() {
        let set = Namespaces {
            network: Namespace::Join("/run/netns/x".into()),
            ipc: Namespace::Host,
            ..Default::default()
        };
        let spec = set.to_spec();
        assert_eq!(spec.len(), 5);
        assert!(spec.iter().any(|n| n.typ() == LinuxNamespaceType::Network && n.path().is_some()));
        assert!(!spec.iter().any(|n| n.typ() == LinuxNamespaceType::Ipc));
    }
}

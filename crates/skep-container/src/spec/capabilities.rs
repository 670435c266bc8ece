//! Which capabilities a container's processes get.

use std::collections::HashSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use skep_types::check::{self, Malformed};

use crate::launch::capability_number;

/// A capability name that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("could not build the capability sets")]
    Build(#[source] oci_spec::OciSpecError),
}

/// Docker's default set.
pub fn default_capabilities() -> Capabilities {
    HashSet::from([
        Capability::AuditWrite,
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fowner,
        Capability::Fsetid,
        Capability::Kill,
        Capability::Mknod,
        Capability::NetBindService,
        Capability::NetRaw,
        Capability::Setfcap,
        Capability::Setgid,
        Capability::Setpcap,
        Capability::Setuid,
        Capability::SysChroot,
    ])
}

/// All that this process may give away (its bounding set), for privileged containers. What the host
/// lacks cannot be given.
pub fn all_capabilities() -> Capabilities {
    ALL_CAPABILITIES
        .iter()
        .copied()
        .filter(|&cap| skep_sys::caps::in_bounding(capability_number(cap)) == Some(true))
        .collect()
}

/// Docker's rule: with `ALL` dropped start from nothing, else from the default; with `ALL` added
/// start from everything; then the drops go and the additions come. Names are accepted with and
/// without `CAP_`, in any case.
pub fn capabilities(add: &[String], drop: &[String]) -> Result<Capabilities, CapabilityError> {
    check::capabilities(add, drop)?;
    let has_all = |names: &[String]| names.iter().any(|n| bare(n) == "ALL");
    let parse_all = |names: &[String]| {
        names.iter().filter(|n| bare(n) != "ALL").map(|n| parse(n)).collect::<Result<Vec<_>, _>>()
    };
    let (added, dropped) = (parse_all(add)?, parse_all(drop)?);
    let mut set = match (has_all(add), has_all(drop)) {
        (true, _) => all_capabilities(),
        (false, true) => HashSet::new(),
        (false, false) => default_capabilities(),
    };
    for cap in dropped {
        set.remove(&cap);
    }
    set.extend(added);
    Ok(set)
}

/// The sets of a process as Docker fills them: bounding, permitted and effective alike, nothing
/// inheritable or ambient. A user other than root loses the latter two at execve, as usual.
pub fn process_capabilities(set: &Capabilities) -> Result<LinuxCapabilities, CapabilityError> {
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .permitted(set.clone())
        .effective(set.clone())
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(CapabilityError::Build)
}

fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

fn parse(name: &str) -> Result<Capability, CapabilityError> {
    let number = check::CAPABILITIES.iter().position(|known| **known == bare(name));
    let known = number.and_then(|number| ALL_CAPABILITIES.get(number)).copied();
    known.ok_or_else(|| Malformed::Capability { list: "capability", name: name.to_owned() }.into())
}

/// Every capability, in the kernel's order, as [`check::CAPABILITIES`].
pub(crate) const ALL_CAPABILITIES: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn mask(set: &Capabilities) -> u64 {
        set.iter().fold(0, |mask, &cap| mask | (1 << capability_number(cap)))
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(mask(&default_capabilities()), 0xa804_25fb);
    }

    #[test]
    fn adding_and_dropping() {
        let list = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let only = capabilities(&list(&["net_admin"]), &list(&["ALL"])).expect("valid");
        assert_eq!(only, HashSet::from([Capability::NetAdmin]));
        let fewer = capabilities(&[], &list(&["CAP_CHOWN"])).expect("valid");
        assert_eq!(mask(&fewer), 0xa804_25fa);
        assert!(matches!(
            capabilities(&list(&["CAP_FLY"]), &[]),
            Err(CapabilityError::Malformed(_))
        ));
    }

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(ALL_CAPABILITIES.len(), check::CAPABILITIES.len());
        for (capability, name) in ALL_CAPABILITIES.iter().zip(check::CAPABILITIES) {
            assert_eq!(Capability::from_str(name).ok().as_ref(), Some(capability), "{name}");
        }
    }
}

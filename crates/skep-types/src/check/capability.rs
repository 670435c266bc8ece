use super::Malformed;

/// Every capability, in the kernel's order, without its `CAP_`. Source: `capabilities(7)`.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Checks `--cap-add` and `--cap-drop`: names with or without `CAP_`, in any case, and `ALL`.
///
/// # Errors
/// [`Malformed::Capability`] with the first unknown name.
pub fn capabilities(add: &[String], drop: &[String]) -> Result<(), Malformed> {
    for (list, names) in [("CapAdd", add), ("CapDrop", drop)] {
        for name in names {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if bare != "ALL" && !CAPABILITIES.contains(&bare) {
                return Err(Malformed::Capability { list, name: format!("CAP_{bare}") });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let list = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        capabilities(&list(&["net_admin", "CAP_BPF", "all"]), &list(&["Chown"])).unwrap();
        let refused = capabilities(&list(&["fly"]), &[]).unwrap_err().to_string();
        assert_eq!(refused, "invalid CapAdd: unknown capability: \"CAP_FLY\"");
        let refused = capabilities(&[], &list(&["CAP_"])).unwrap_err().to_string();
        assert_eq!(refused, "invalid CapDrop: unknown capability: \"CAP_\"");
    }
}

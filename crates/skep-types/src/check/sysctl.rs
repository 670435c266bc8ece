use super::Malformed;

/// Which of its namespaces a container shares with the host; settings there are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    pub network: bool,
    pub ipc: bool,
    pub uts: bool,
}

/// Settings of an IPC namespace beside `fs.mqueue.*`. Source: `ipc_namespaces(7)`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Checks the name of a kernel setting: only those may be set that a namespace of the container's own
/// holds. Whether this kernel has it is another question.
///
/// # Errors
/// [`Malformed::Sysctl`].
pub fn sysctl(name: &str, sharing: Sharing) -> Result<(), Malformed> {
    let fail = |why| Err(Malformed::Sysctl { name: name.to_owned(), why });
    let shaped = !name.is_empty()
        && name.split('.').all(|part| !part.is_empty())
        && !name.contains(|c: char| c.is_whitespace() || c.is_control())
        && !name.split('/').any(|part| part == "..");
    if !shaped {
        return fail("is not a setting");
    }
    let of_ipc = IPC.contains(&name) || name.starts_with("fs.mqueue.");
    match () {
        () if name.starts_with("net.") && sharing.network => {
            fail("not allowed in host network namespace")
        }
        () if name.starts_with("net.") => Ok(()),
        () if of_ipc && sharing.ipc => fail("not allowed in host ipc namespace"),
        () if of_ipc => Ok(()),
        () if name == "kernel.domainname" && !sharing.uts => Ok(()),
        () if name == "kernel.hostname" => fail("conflicts with --hostname"),
        () => fail("is not in a separate kernel namespace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let own = Sharing::default();
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max"] {
            sysctl(name, own).unwrap();
        }
        let host = Sharing { network: true, ipc: true, uts: true };
        for (name, sharing, words) in [
            ("kernel.foo", own, "\"kernel.foo\" is not in a separate kernel namespace"),
            ("kernel.hostname", own, "conflicts with --hostname"),
            ("net..x", own, "is not a setting"),
            ("net.a b", own, "is not a setting"),
            ("", own, "is not a setting"),
            ("net/../kernel/x", own, "is not a setting"),
            ("net.core.somaxconn", host, "not allowed in host network namespace"),
            ("kernel.shmmax", host, "not allowed in host ipc namespace"),
            ("kernel.domainname", host, "is not in a separate"),
        ] {
            let refused = sysctl(name, sharing).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}

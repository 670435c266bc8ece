//! Docker's profile format, resolved for a container's capabilities and this host.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompBuilder, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

/// Docker's default: everything ordinary programs need, the rest by capability, EPERM otherwise.
const DEFAULT: &str = include_str!("default.json");

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("could not read the seccomp profile")]
    Parse(#[source] serde_json::Error),
    #[error("seccomp profile: {0}")]
    Contradiction(&'static str),
    #[error("could not build the seccomp section")]
    Build(#[source] oci_spec::OciSpecError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

/// Under which circumstances a rule is (not) there.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<Capability>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Docker's default profile for a container with these capabilities.
pub fn default_profile(caps: &Capabilities) -> Result<LinuxSeccomp, ProfileError> {
    parse_profile(DEFAULT, caps)
}

/// A profile in Docker's JSON format (`--security-opt seccomp=<file>`), for these capabilities.
pub fn parse_profile(json: &str, caps: &Capabilities) -> Result<LinuxSeccomp, ProfileError> {
    let profile: Profile = serde_json::from_str(json).map_err(ProfileError::Parse)?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(ProfileError::Contradiction("use either architectures or archMap"));
    }
    let mut architectures = profile.architectures;
    for map in &profile.arch_map {
        if map.architecture == native_arch() {
            for name in std::iter::once(&map.architecture).chain(&map.sub_architectures) {
                let name = serde_json::Value::String(name.clone());
                architectures.push(serde_json::from_value(name).map_err(ProfileError::Parse)?);
            }
        }
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        if !rule.includes.included(caps) || rule.excludes.excluded(caps) {
            continue;
        }
        let mut names = rule.names;
        if !rule.name.is_empty() {
            if !names.is_empty() {
                return Err(ProfileError::Contradiction("use either name or names"));
            }
            names.push(rule.name);
        }
        let mut syscall: LinuxSyscall = LinuxSyscallBuilder::default()
            .names(names)
            .action(rule.action)
            .build()
            .map_err(ProfileError::Build)?;
        syscall.set_errno_ret(rule.errno_ret).set_args(rule.args);
        syscalls.push(syscall);
    }
    let mut seccomp = LinuxSeccompBuilder::default()
        .default_action(profile.default_action)
        .architectures(architectures)
        .syscalls(syscalls)
        .build()
        .map_err(ProfileError::Build)?;
    seccomp.set_default_errno_ret(profile.default_errno_ret);
    Ok(seccomp)
}

impl Filter {
    fn included(&self, caps: &Capabilities) -> bool {
        (self.arches.is_empty() || self.names_arch())
            && self.caps.iter().all(|c| caps.contains(c))
            && self.min_kernel.as_deref().is_none_or(kernel_at_least)
    }

    fn excluded(&self, caps: &Capabilities) -> bool {
        self.names_arch()
            || self.caps.iter().any(|c| caps.contains(c))
            || self.min_kernel.as_deref().is_some_and(kernel_at_least)
    }

    fn names_arch(&self) -> bool {
        let native = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.arches.iter().any(|a| a == native)
    }
}

fn native_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        _ => "",
    }
}

/// Whether the running kernel is at least "major.minor".
fn kernel_at_least(wanted: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|p| p.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    release.is_ok_and(|release| numbers(&release) >= numbers(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::default_capabilities;

    fn action(profile: &LinuxSeccomp, name: &str) -> Option<LinuxSeccompAction> {
        let rules = profile.syscalls().as_ref()?;
        rules.iter().find(|s| s.names().iter().any(|n| n == name)).map(LinuxSyscall::action)
    }

    #[test]
    fn rules_follow_capabilities() {
        let mut caps = default_capabilities();
        let plain = default_profile(&caps).expect("profile");
        assert_eq!(action(&plain, "mount"), None);
        assert_eq!(action(&plain, "chroot"), Some(LinuxSeccompAction::ScmpActAllow));
        assert_eq!(action(&plain, "clone3"), Some(LinuxSeccompAction::ScmpActErrno));
        caps.insert(Capability::SysAdmin);
        let admin = default_profile(&caps).expect("profile");
        assert_eq!(action(&admin, "mount"), Some(LinuxSeccompAction::ScmpActAllow));
        assert_eq!(action(&admin, "clone3"), Some(LinuxSeccompAction::ScmpActAllow));
    }

    #[test]
    fn a_broken_profile_is_refused() {
        let caps = Capabilities::new();
        assert!(matches!(parse_profile("{", &caps), Err(ProfileError::Parse(_))));
        let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(matches!(parse_profile(both, &caps), Err(ProfileError::Contradiction(_))));
    }
}

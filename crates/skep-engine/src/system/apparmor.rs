//! AppArmor: the profile that containers run under, where the kernel has it.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use thiserror::Error;

/// The profile of containers that ask for no other; Docker's name, which users' tools know.
pub const DEFAULT_PROFILE: &str = "docker-default";

const DEFAULT_TEXT: &str = include_str!("docker-default.apparmor");

/// Why the default profile is not in the kernel.
#[derive(Debug, Error)]
pub enum AppArmorError {
    #[error("cannot read the kernel's list of profiles")]
    List(#[source] io::Error),
    #[error("cannot run apparmor_parser")]
    Run(#[source] io::Error),
    #[error("apparmor_parser refused the profile: {0}")]
    Refused(String),
}

/// What this host can confine containers by.
#[derive(Debug)]
pub enum AppArmor {
    /// The kernel has no AppArmor, or it is off.
    Absent,
    /// The default profile is loaded.
    Ready,
    /// The kernel has AppArmor, but not the default profile: containers run unconfined unless they name
    /// a profile.
    Unloaded(AppArmorError),
}

impl AppArmor {
    /// This host's. Looked at once, when the default profile is loaded unless somebody did that before.
    /// The first call blocks on a child process.
    pub fn host() -> &'static AppArmor {
        static HOST: OnceLock<AppArmor> = OnceLock::new();
        HOST.get_or_init(|| Self::look(Path::new("/sys"), "apparmor_parser"))
    }

    fn look(sys: &Path, parser: &str) -> Self {
        let enabled = std::fs::read_to_string(sys.join("module/apparmor/parameters/enabled"));
        if !enabled.is_ok_and(|text| text.trim() == "Y") {
            return Self::Absent;
        }
        match ensure_loaded(&sys.join("kernel/security/apparmor/profiles"), parser) {
            Ok(()) => Self::Ready,
            Err(error) => Self::Unloaded(error),
        }
    }

    /// The profile of a container's processes, given the one that was asked for; `None`: the daemon's own,
    /// which is none.
    pub fn profile(&self, asked: Option<&str>, privileged: bool) -> Option<String> {
        match (self, asked) {
            (Self::Absent, _) | (_, Some("unconfined")) => None,
            (_, Some(name)) => Some(name.to_owned()),
            (Self::Ready, None) if !privileged => Some(DEFAULT_PROFILE.to_owned()),
            (_, None) => None,
        }
    }

    /// What the user who asked for a profile has to know.
    pub fn warning(&self, asked: Option<&str>) -> Option<String> {
        match (self, asked) {
            (Self::Absent, Some(name)) if name != "unconfined" => Some(format!(
                "AppArmor is not enabled on this host: --security-opt apparmor={name} has no effect"
            )),
            _ => None,
        }
    }
}

fn ensure_loaded(list: &Path, parser: &str) -> Result<(), AppArmorError> {
    let profiles = std::fs::read_to_string(list).map_err(AppArmorError::List)?;
    let loaded = |line: &str| line.split(" (").next() == Some(DEFAULT_PROFILE);
    if profiles.lines().any(loaded) {
        return Ok(());
    }
    // Replace rather than add: another daemon may do the same now.
    let mut child = Command::new(parser)
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(AppArmorError::Run)?;
    let written = match child.stdin.take() {
        Some(mut input) => input.write_all(DEFAULT_TEXT.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(AppArmorError::Run)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(AppArmorError::Refused(text));
    }
    written.map_err(AppArmorError::Run)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A kernel's files with these profiles, and a parser that does what `script` says.
    fn host(enabled: &str, profiles: &str, script: &str) -> (tempfile::TempDir, AppArmor) {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().join("sys");
        for folder in ["module/apparmor/parameters", "kernel/security/apparmor"] {
            fs::create_dir_all(sys.join(folder)).unwrap();
        }
        fs::write(sys.join("module/apparmor/parameters/enabled"), enabled).unwrap();
        fs::write(sys.join("kernel/security/apparmor/profiles"), profiles).unwrap();
        let parser = dir.path().join("parser");
        let taken = dir.path().join("taken");
        fs::write(&parser, format!("#!/bin/sh\ncat > {}\n{script}\n", taken.display())).unwrap();
        fs::set_permissions(&parser, fs::Permissions::from_mode(0o755)).unwrap();
        let found = AppArmor::look(&sys, parser.to_str().unwrap());
        (dir, found)
    }

    #[test]
    fn the_default_profile_is_loaded_once() {
        let (dir, found) = host("Y\n", "/usr/bin/man (enforce)\n", "exit 0");
        assert!(matches!(found, AppArmor::Ready));
        let text = fs::read_to_string(dir.path().join("taken")).unwrap();
        assert!(text.contains("\nprofile docker-default "), "{text}");
        // One that is there already is whoever's it is.
        let (dir, found) = host("Y\n", "man (enforce)\ndocker-default (enforce)\n", "exit 1");
        assert!(matches!(found, AppArmor::Ready));
        assert!(!dir.path().join("taken").exists());
        let (_dir, found) = host("N\n", "", "exit 0");
        assert!(matches!(found, AppArmor::Absent));
        let (_dir, found) = host("Y\n", "", "echo syntax error >&2; exit 1");
        match found {
            AppArmor::Unloaded(AppArmorError::Refused(text)) => assert_eq!(text, "syntax error"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn which_profile_a_container_gets() {
        let unloaded = || AppArmor::Unloaded(AppArmorError::Refused(String::new()));
        for (host, asked, privileged, profile) in [
            (AppArmor::Ready, None, false, Some("docker-default")),
            (AppArmor::Ready, None, true, None),
            (AppArmor::Ready, Some("unconfined"), false, None),
            (AppArmor::Ready, Some("mine"), false, Some("mine")),
            (AppArmor::Ready, Some("mine"), true, Some("mine")),
            (unloaded(), None, false, None),
            (unloaded(), Some("mine"), false, Some("mine")),
            (AppArmor::Absent, None, false, None),
            (AppArmor::Absent, Some("mine"), false, None),
        ] {
            let given = host.profile(asked, privileged);
            assert_eq!(given.as_deref(), profile, "{host:?} {asked:?} {privileged}");
            let silent = host.warning(asked).is_none();
            assert_eq!(silent, !(matches!(host, AppArmor::Absent) && asked.is_some()));
        }
        assert!(AppArmor::Absent.warning(Some("unconfined")).is_none());
    }
}

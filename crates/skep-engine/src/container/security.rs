//! `--security-opt`.

use crate::error::{EngineError, Result};
use crate::system::apparmor::AppArmor;

/// Which system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's profile; none for privileged containers.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile as JSON, which the client has read from its file.
    Profile(String),
}

/// Security options read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Programs gain nothing by set-id bits or file capabilities.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile; `None` is the default one.
    pub apparmor: Option<String>,
    /// Options that are understood and have no effect, as the user gave them.
    pub ignored: Vec<String>,
}

impl Security {
    /// What the user has to know of options that have no effect.
    pub fn warnings(&self, apparmor: &AppArmor) -> Vec<String> {
        let ignored = self.ignored.iter().map(|option| {
            format!("--security-opt {option} is not supported here and has no effect")
        });
        apparmor.warning(self.apparmor.as_deref()).into_iter().chain(ignored).collect()
    }
}

/// Reads `no-new-privileges[=bool]`, `seccomp=…`, `apparmor=…`, `label=…` and `writable-cgroups=…`
/// (neither has an effect: SELinux is not used, control groups stay read-only), each with `=` or the
/// older `:`.
///
/// # Errors
/// `Invalid` for others.
pub fn parse(options: &[String]) -> Result<Security> {
    let mut security = Security::default();
    for option in options {
        let bad = || EngineError::Invalid(format!("invalid --security-opt 2: {option:?}"));
        if option == "no-new-privileges" {
            security.no_new_privileges = true;
            continue;
        }
        if option == "disable" {
            continue;
        }
        let (name, value) = option.split_once(['=', ':']).ok_or_else(bad)?;
        match name {
            "no-new-privileges" => security.no_new_privileges = value.parse().map_err(|_| bad())?,
            // What it turns off is off.
            "label" if value == "disable" => {}
            "writable-cgroups" if value == "false" => {}
            "label" | "writable-cgroups" => security.ignored.push(option.clone()),
            "apparmor" => security.apparmor = Some(value.to_owned()),
            "seccomp" => {
                security.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" => Seccomp::Default,
                    json => Seccomp::Profile(json.to_owned()),
                }
            }
            _ => return Err(bad()),
        }
    }
    Ok(security)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let run = |list: &[&str]| parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert!(run(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(!run(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        assert_eq!(run(&["seccomp=unconfined"]).unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(
            run(&["seccomp:{\"a\":1}"]).unwrap().seccomp,
            Seccomp::Profile("{\"a\":1}".into())
        );
        assert_eq!(
            run(&["apparmor=unconfined", "label=disable"]).unwrap().apparmor.as_deref(),
            Some("unconfined")
        );
        let quiet = run(&["label=disable", "disable", "writable-cgroups=false"]).unwrap();
        assert_eq!(quiet.warnings(&AppArmor::Absent), [""; 0]);
        let said = run(&["label=type:x_t", "writable-cgroups=true", "apparmor=mine"]).unwrap();
        assert_eq!(
            said.warnings(&AppArmor::Absent),
            [
                "AppArmor is not enabled on this host: --security-opt apparmor=mine has no effect",
                "--security-opt label=type:x_t is not supported here and has no effect",
                "--security-opt writable-cgroups=true is not supported here and has no effect",
            ]
        );
        assert_eq!(said.warnings(&AppArmor::Ready).len(), 2);
        for bad in ["foo", "foo=bar", "no-new-privileges=maybe"] {
            assert!(run(&[bad]).is_err(), "{bad}");
        }
    }
}

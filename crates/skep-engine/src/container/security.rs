//! `--security-opt`.

use crate::error::{EngineError, Result};

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
}

/// Reads `no-new-privileges[=bool]`, `seccomp=…`, `apparmor=…`, `label=…` (ignored: there is no
/// SELinux here), each with `=` or the older `:`.
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
            "label" => {}
            "apparmor" => security.apparmor = Some(value.to_owned()),
            "seccomp" => {
                security.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" => Seccomp::Default,
                    json => Seccomp::Profile(json.to_owned()),
                }
            }
            "writable-cgroups" => {}
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
        for bad in ["foo", "foo=bar", "no-new-privileges=maybe"] {
            assert!(run(&[bad]).is_err(), "{bad}");
        }
    }
}

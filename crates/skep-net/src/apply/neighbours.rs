//! What on this host is somebody else's: another daemon, Docker, or what they left.
//!
//! Our own things bear a mark: interfaces an alias (`skep:…`), the host's table of rules the data root in its
//! comment, pinned namespaces a record of their rules. Whatever has none is never changed or removed.

use super::links::Link;
use super::nft::Nft;
use crate::error::{NetError, Result};
use crate::plan::{NsName, TABLE};
use crate::world::Claim;
use std::collections::BTreeMap;
use std::path::Path;

/// How the comment of our table begins; the data root follows.
const OWNER: &str = "skep of ";

/// The comment of our table in the host's namespace.
pub fn owner(data_root: &Path) -> String {
    // What nft could not quote is not worth refusing a start.
    let root = data_root.display().to_string();
    format!("{OWNER}{}", root.replace(['"', '\\', '\n'], "_"))
}

/// Refuses rules on the host that another data root's daemon wrote, whose containers may be running, or that somebody
/// else did. An empty table is nobody's.
pub fn check_rules(nft: &Nft, data_root: &Path) -> Result<()> {
    let listing = match nft.list(&NsName::Host.to_string(), TABLE) {
        Ok(listing) => listing,
        // A host without nft, or whose nft fails, is told as such elsewhere.
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot see whose rules this host has");
            return Ok(());
        }
    };
    match comment(&listing) {
        Some(found) if found.starts_with(OWNER) && found != owner(data_root) => {
            Err(NetError::RulesOfAnother { data_root: found[OWNER.len()..].to_owned() })
        }
        Some(found) if found.starts_with(OWNER) => Ok(()),
        _ if is_empty(&listing) => Ok(()),
        _ => Err(NetError::RulesOfSomebody),
    }
}

/// Whether a table has neither chains nor sets nor anything else.
fn is_empty(listing: &str) -> bool {
    listing.lines().all(|line| matches!(line.trim(), "" | "}") || line.starts_with("table "))
}

fn comment(listing: &str) -> Option<&str> {
    let line = listing.lines().find_map(|l| l.trim().strip_prefix("comment \""))?;
    line.strip_suffix('"')
}

/// Which of the bridges' names are somebody else's.
pub fn claims<'a>(
    links: &BTreeMap<String, Link>,
    names: impl IntoIterator<Item = &'a str>,
    docker: bool,
) -> BTreeMap<String, Claim> {
    let claim = |name: &str| match links.get(name) {
        Some(link) if !link.is_ours() => Some(Claim::Held),
        _ => docker.then_some(Claim::Expected),
    };
    names.into_iter().filter_map(|name| Some((name.to_owned(), claim(name)?))).collect()
}

/// Whether Docker's daemon is installed, where this process would find it.
pub fn docker_is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("dockerd").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_anything_is_empty() {
        for (listing, empty) in [
            ("", true),
            ("table ip skep {\n}\n", true),
            ("table ip skep {\n\tchain a {\n\t}\n}\n", false),
            ("table ip skep {\n\tset a {\n\t\ttype mark\n\t}\n}\n", false),
            ("\tchain a {\n\t}", false),
        ] {
            assert_eq!(is_empty(listing), empty, "{listing}");
        }
    }

    #[test]
    fn the_comment_is_found() {
        let listing =
            "\tcomment \"skep of /var/lib/skep\"\n\tchain guard {\n\t\taccept comment \"x\"\n\t}";
        assert_eq!(comment(listing), Some("skep of /var/lib/skep"));
        assert_eq!(comment("\tchain guard {\n\t}"), None);
        assert_eq!(owner(Path::new("/a \"b\"")), "skep of /a _b_");
    }

    #[test]
    fn names_are_claimed_by_who_has_them() {
        let link = |alias: &str| Link { alias: alias.to_owned(), ..Link::default() };
        let links = BTreeMap::from([
            ("docker0".to_owned(), link("")),
            ("docker_gwbridge".to_owned(), link("skep:0123")),
        ]);
        let all = ["docker0", "docker_gwbridge", "other"];
        assert_eq!(
            claims(&links, all, false),
            BTreeMap::from([("docker0".to_owned(), Claim::Held)])
        );
        let beside = claims(&links, all, true);
        assert_eq!(beside["docker0"], Claim::Held);
        assert_eq!(beside["docker_gwbridge"], Claim::Expected);
        assert_eq!(beside["other"], Claim::Expected);
    }
}

//! Who a container's process runs as.

use std::io;
use std::path::Path;

use super::rootfs;

/// Longest /etc/passwd or /etc/group read, in bytes.
const LIMIT: u64 = 4 << 20;
/// Linux ids are below this; the highest value means "unchanged" to system calls.
const MAX_ID: u64 = (u32::MAX - 1) as u64;

/// A user as numbers, with the home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted, without repetition.
    pub groups: Vec<u32>,
    /// From /etc/passwd; `/` if the user has none there.
    pub home: String,
}

/// A user or group does not exist in the container's files, or makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoSuchUser { name: String },
    #[error("unable to find group {name}: no matching entries in group file")]
    NoSuchGroup { name: String },
    #[error("id {id} is out of range")]
    OutOfRange { id: String },
    #[error("could not read {path} of the container")]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Resolves Docker's `user[:group]`, each by name or number, in the files of `root`.
///
/// As Docker does: an empty user is root; a name is looked up first and a number that is no name is
/// taken as it is; without a group the user's own group and all groups that list the user apply,
/// with a group only that one; `add` (names or numbers) comes on top.
pub fn resolve_user(root: &Path, user: &str, add: &[String]) -> Result<ResolvedUser, UserError> {
    let passwd = file(root, "/etc/passwd")?;
    let group = file(root, "/etc/group")?;
    resolve(&passwd, &group, user, add)
}

/// The text of a file; empty if the image has none.
fn file(root: &Path, path: &'static str) -> Result<String, UserError> {
    match rootfs::read_text(root, Path::new(path), LIMIT) {
        Ok(text) => Ok(text),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(source) => Err(UserError::Read { path, source }),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn resolve(
    passwd: &str,
    group: &str,
    user: &str,
    add: &[String],
) -> Result<ResolvedUser, UserError> {
    let (user, explicit_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let number = numeric(user)?;
    let account = match (user, number) {
        ("", _) => accounts(passwd).find(|a| a.uid == 0),
        (name, number) => accounts(passwd)
            .find(|a| a.name == name)
            .or_else(|| accounts(passwd).find(|a| Some(a.uid) == number)),
    };
    let uid = match (&account, number, user) {
        (Some(account), ..) => account.uid,
        (None, Some(number), _) => number,
        (None, None, "") => 0,
        (None, None, name) => return Err(UserError::NoSuchUser { name: name.to_owned() }),
    };
    let (gid, mut supplementary) = match explicit_group {
        Some(name) => (find_group(group, name)?, Vec::new()),
        None => {
            let own = account.as_ref().map_or(0, |a| a.gid);
            let listed = account.as_ref().map_or_else(Vec::new, |account| {
                groups(group)
                    .filter(|g| g.members.split(',').any(|m| m.trim() == account.name))
                    .map(|g| g.gid)
                    .collect()
            });
            (own, listed)
        }
    };
    for name in add {
        supplementary.push(find_group(group, name)?);
    }
    supplementary.sort_unstable();
    supplementary.dedup();
    let home = account.map(|a| a.home).filter(|h| !h.is_empty()).unwrap_or("/").to_owned();
    Ok(ResolvedUser { uid, gid, groups: supplementary, home })
}

/// The home directory of a user id, `/` if the file has none.
pub(crate) fn home_of(passwd: &str, uid: u32) -> &str {
    accounts(passwd).find(|a| a.uid == uid).map(|a| a.home).filter(|h| !h.is_empty()).unwrap_or("/")
}

fn find_group(group: &str, name: &str) -> Result<u32, UserError> {
    let number = numeric(name)?;
    groups(group)
        .find(|g| g.name == name)
        .map(|g| g.gid)
        .or(number)
        .ok_or_else(|| UserError::NoSuchGroup { name: name.to_owned() })
}

/// The number that a word spells, if it spells one.
fn numeric(word: &str) -> Result<Option<u32>, UserError> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<u64>() {
        Ok(id) if id <= MAX_ID => Ok(u32::try_from(id).ok()),
        _ => Err(UserError::OutOfRange { id: word.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/false\n1000:x:7:8::/odd:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nvideo:x:44:web\nwww:x:34:\n";

    fn get(user: &str, add: &[&str]) -> Result<ResolvedUser, UserError> {
        resolve(PASSWD, GROUP, user, &add.iter().map(|&s| s.to_owned()).collect::<Vec<_>>())
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> ResolvedUser {
        ResolvedUser { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn names_numbers_and_both() {
        assert_eq!(get("", &[]).expect("root"), user(0, 0, &[10], "/root"));
        assert_eq!(get("web", &[]).expect("name"), user(33, 34, &[10, 44], "/var/www"));
        assert_eq!(get("33", &[]).expect("number of a name"), user(33, 34, &[10, 44], "/var/www"));
        assert_eq!(
            get("web:video", &["7", "wheel"]).expect("group"),
            user(33, 44, &[7, 10], "/var/www")
        );
        assert_eq!(get("4711:4712", &[]).expect("unknown numbers"), user(4711, 4712, &[], "/"));
        assert_eq!(
            get("1000", &[]).expect("a name that looks like a number"),
            user(7, 8, &[], "/odd")
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(
            matches!(get("ghost", &[]), Err(UserError::NoSuchUser { name }) if name == "ghost")
        );
        assert!(
            matches!(get("web:ghosts", &[]), Err(UserError::NoSuchGroup { name }) if name == "ghosts")
        );
        assert!(matches!(get("4294967295", &[]), Err(UserError::OutOfRange { .. })));
    }
}

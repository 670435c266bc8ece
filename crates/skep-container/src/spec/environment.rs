//! The environment of a container's process.

/// What PATH is when an image does not say.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An environment under construction: entries `NAME=value`, each name once, in order of first mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<String>,
}

impl Environment {
    /// What Docker gives every container before the image's own entries: PATH and HOSTNAME, and
    /// TERM with a terminal.
    pub fn base(hostname: &str, tty: bool) -> Environment {
        let mut base = Environment::default();
        base.set(DEFAULT_PATH);
        base.set(&format!("HOSTNAME={hostname}"));
        if tty {
            base.set("TERM=xterm");
        }
        base
    }

    /// Sets `NAME=value`, replacing an earlier entry of that name in its place. An entry without `=`
    /// removes the name, as Docker does with variables the client does not have.
    pub fn set(&mut self, entry: &str) {
        let name = name_of(entry);
        let at = self.entries.iter().position(|e| name_of(e) == name);
        match (entry.contains('='), at) {
            (true, Some(at)) => self.entries[at] = entry.to_owned(),
            (true, None) => self.entries.push(entry.to_owned()),
            (false, Some(at)) => drop(self.entries.remove(at)),
            (false, None) => {}
        }
    }

    /// Sets each entry in turn.
    pub fn extend<'a>(&mut self, entries: impl IntoIterator<Item = &'a str>) {
        entries.into_iter().for_each(|entry| self.set(entry));
    }

    /// Sets an entry only if its name is not there yet (HOME, after the user is known).
    pub fn set_default(&mut self, entry: &str) {
        if self.get(name_of(entry)).is_none() {
            self.set(entry);
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn into_entries(self) -> Vec<String> {
        self.entries
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_entries_win_in_place() {
        let mut env = Environment::base("box", true);
        env.extend(["A=1", "PATH=/bin", "B=2=3", "A=4", "B"]);
        env.set_default("HOME=/root");
        env.set_default("A=9");
        assert_eq!(env.get("A"), Some("4"));
        assert_eq!(
            env.into_entries(),
            ["PATH=/bin", "HOSTNAME=box", "TERM=xterm", "A=4", "HOME=/root"]
        );
    }
}

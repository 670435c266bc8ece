//! `resolv.conf`: read the host's, write a container's. Pure.

use crate::config::DnsOptions;
use std::fmt::Write as _;
use std::net::IpAddr;

/// What a `resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers, in order.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads one. Lines that make no sense are passed over, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                // A scope such as fe80::1%eth0 means nothing in another namespace.
                Some("nameserver") => {
                    conf.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                // The last of several counts.
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The host's as changed by a container's or the daemon's own settings.
    pub fn with(mut self, own: &DnsOptions, daemon: &DnsOptions) -> Self {
        let pick = |own: &[String], daemon: &[String]| {
            if own.is_empty() { daemon.to_vec() } else { own.to_vec() }
        };
        if let Some(servers) = [&own.servers, &daemon.servers].into_iter().find(|s| !s.is_empty()) {
            self.servers.clone_from(servers);
        }
        match pick(&own.search, &daemon.search) {
            search if search.is_empty() => {}
            // A single dot asks for no search at all.
            search if search == ["."] => self.search.clear(),
            search => self.search = search,
        }
        let options = pick(&own.options, &daemon.options);
        if !options.is_empty() {
            self.options = options;
        }
        self
    }

    /// For a container on the default bridge: the same servers, except those that
    /// only the host can reach.
    pub fn without_loopback(mut self) -> Self {
        self.servers.retain(|s| !s.is_loopback());
        self
    }

    /// For a container whose names are resolved here. With `ndots:0` a name without
    /// a dot is asked as it is, before the search domains.
    pub fn embedded(mut self, resolver: IpAddr) -> Self {
        self.servers = vec![resolver];
        if !self.options.iter().any(|o| o.starts_with("ndots:")) {
            self.options.push("ndots:0".to_owned());
        }
        self
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # first\nsearch a.example b.example\noptions edns0\n";

    #[test]
    fn embedded_keeps_search_and_options() {
        let conf = ResolvConf::parse(HOST).embedded("127.0.0.11".parse().unwrap());
        assert_eq!(
            conf.render(),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
        );
    }

    #[test]
    fn plain_leaves_out_loopback() {
        assert_eq!(
            ResolvConf::parse(HOST).without_loopback().servers,
            ["192.0.2.1".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn own_settings_come_before_the_daemons() {
        let own = DnsOptions { search: vec![".".into()], ..DnsOptions::default() };
        let daemon = DnsOptions {
            servers: vec!["198.51.100.1".parse().unwrap()],
            search: vec!["corp".into()],
            options: vec!["ndots:3".into()],
        };
        let conf = ResolvConf::parse(HOST).with(&own, &daemon);
        assert_eq!(conf.render(), "nameserver 198.51.100.1\noptions ndots:3\n");
    }
}

//! Which platform an image is for, and which of several fits this host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, processor architecture and its variant, in Go's words (`linux/arm/v7`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    #[serde(default)]
    pub os: String,
    /// Such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `v7`; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A malformed `--platform`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: use os/architecture or os/architecture/variant")]
pub struct PlatformError(String);

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
            .normal()
    }

    /// Parses `os/arch[/variant]`, or one of both alone, completed from the host.
    ///
    /// # Errors
    /// [`PlatformError`] when empty, with odd characters or with too many parts.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let bad = || PlatformError(text.into());
        let parts: Vec<&str> = text.split('/').collect();
        let odd = |p: &&str| {
            p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if parts.iter().any(odd) {
            return Err(bad());
        }
        let host = Self::host();
        let platform = match parts[..] {
            ["linux"] => host,
            [os @ ("windows" | "darwin" | "freebsd")] => Self { os: os.into(), ..host },
            [arch] => Self { os: host.os, architecture: arch.into(), variant: String::new() },
            [os, arch] => Self { os: os.into(), architecture: arch.into(), variant: String::new() },
            [os, arch, variant] => {
                Self { os: os.into(), architecture: arch.into(), variant: variant.into() }
            }
            _ => return Err(bad()),
        };
        Ok(platform.normal())
    }

    /// One spelling for each platform: `x86_64` is `amd64`, arm64 is v8, arm without variant is v7.
    #[must_use]
    pub fn normal(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        self.variant = self.variant.to_ascii_lowercase();
        let (architecture, variant) =
            match (self.architecture.to_ascii_lowercase().as_str(), self.variant.as_str()) {
                ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".into(), String::new()),
                ("x86_64" | "x86-64" | "amd64", v) => ("amd64".into(), v.into()),
                ("i386", _) => ("386".into(), String::new()),
                ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64".into(), "v8".into()),
                ("aarch64", v) => ("arm64".into(), v.into()),
                ("armhf", _) => ("arm".into(), "v7".into()),
                ("armel", _) => ("arm".into(), "v6".into()),
                ("arm", "" | "7") => ("arm".into(), "v7".into()),
                ("arm", v @ ("5" | "6" | "8")) => ("arm".into(), format!("v{v}")),
                (arch, v) => (arch.into(), v.into()),
            };
        self.architecture = architecture;
        self.variant = variant;
        self
    }

    /// How well an image for `offer` runs on `self`: `None` not at all, else lower is better.
    ///
    /// A newer variant of the same architecture runs what was built for an older one.
    pub fn rank(&self, offer: &Self) -> Option<u32> {
        let (want, offer) = (self.clone().normal(), offer.clone().normal());
        if want.os != offer.os || want.architecture != offer.architecture {
            return None;
        }
        if want.variant == offer.variant {
            return Some(0);
        }
        let number =
            |v: &str| if v.is_empty() { Some(1) } else { v.strip_prefix('v')?.parse::<u32>().ok() };
        let gap = number(&want.variant)?.checked_sub(number(&offer.variant)?)?;
        (gap > 0).then_some(gap)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_rank() {
        let p = |t: &str| Platform::parse(t).unwrap();
        assert_eq!(p("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(p("linux/arm64").to_string(), "linux/arm64/v8");
        assert_eq!(p("arm64").to_string(), "linux/arm64/v8");
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64")), Some(0));
        assert_eq!(p("linux/amd64").rank(&p("linux/arm64")), None);
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").rank(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64/v3")), None);
        assert_eq!(p("linux/amd64/v3").rank(&p("linux/amd64")), Some(2));
        for bad in ["", "/", "linux/", "a/b/c/d", "li nux/amd64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }
}

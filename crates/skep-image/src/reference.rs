//! Image names as people type them, normalised as Docker does.
//!
//! Grammar: `github.com/distribution/reference`. `busybox` becomes `docker.io/library/busybox`;
//! the *familiar* form takes that back for showing.

use std::fmt;

use crate::digest::{Digest, ImageId};

/// The registry that a name without a host part belongs to.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant when neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library/";
/// Longest repository name, host part included.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised image name: repository, and a tag, a digest, both or neither.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference; Docker's texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Does not fit the grammar.
    #[error("invalid reference format")]
    Format,
    /// An upper-case letter in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// A repository name that would be mistaken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Too long.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    /// A tag was needed, a digest came.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// `scratch` is the empty image and cannot be stored.
    #[error("'scratch' is a reserved name")]
    Reserved,
}

/// What a user may mean by a name given to `inspect`, `rmi` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// A whole image id.
    Id(ImageId),
    /// A name; short hexadecimal names may still be an id prefix.
    Name(Reference),
}

impl Reference {
    /// Parses a name with Docker's normalisation. No tag is added; see [`Reference::tagged`].
    ///
    /// # Errors
    /// [`ReferenceError`] when the text does not fit the grammar.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if Digest::from_hex(text).is_some() {
            return Err(ReferenceError::LooksLikeId(text.into()));
        }
        let (domain, remainder) = split_domain(text);
        let (name_and_tag, digest) = match remainder.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| ReferenceError::Format)?))
            }
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name_and_tag.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name_and_tag, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(path.into()));
        }
        if !domain_ok(&domain) || !path_ok(path) || tag.is_some_and(|tag| !tag_ok(tag)) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self { domain, path: path.into(), tag: tag.map(Into::into), digest })
    }

    /// As [`Reference::parse`], but a whole image id, with or without `sha256:`, is an id.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse_any(text: &str) -> Result<AnyReference, ReferenceError> {
        let id = Digest::from_hex(text).or_else(|| text.parse().ok());
        match id {
            Some(id) => Ok(AnyReference::Id(ImageId(id))),
            None => Self::parse(text).map(AnyReference::Name),
        }
    }

    /// Host and optional port of the registry, such as `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository within the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Full repository name, such as `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same, with `:latest` if it had neither tag nor digest.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] for a malformed tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !tag_ok(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Repository alone.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// Repository as Docker shows it: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain == DEFAULT_DOMAIN {
            let path = self.path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
            return path.unwrap_or(&self.path).to_owned();
        }
        self.name()
    }

    /// The reference as Docker shows it, such as `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

/// The whole, canonical form.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// The first part is a host if it has a dot, a colon or an upper-case letter, or is `localhost`.
fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain.into(), format!("{OFFICIAL}{remainder}"));
    }
    (domain.into(), remainder.into())
}

fn domain_ok(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, "")) => (v6, None),
            Some((v6, port)) => (v6, Some(port.strip_prefix(':').unwrap_or(""))),
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let host_ok = if domain.starts_with('[') {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    host_ok && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn path_ok(path: &str) -> bool {
    path.split('/').all(component_ok)
}

/// Runs of lower-case letters and digits, separated by one dot, one or two underscores or any
/// number of dashes.
fn component_ok(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    bytes.split(|b| alnum(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn tag_ok(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalisation() {
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
            ("localhost/a", "localhost/a", "localhost/a"),
            ("localhost:5000/a:t", "localhost:5000/a:t", "localhost:5000/a:t"),
            ("Reg/a", "Reg/a", "Reg/a"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("a__b/c-----d.e_f", "docker.io/a__b/c-----d.e_f", "a__b/c-----d.e_f"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ] {
            let r = Reference::parse(text).unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (canonical, familiar));
            assert_eq!(Reference::parse(canonical).unwrap(), r);
        }
        let both = Reference::parse(&format!("busybox:1@{D}")).unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(both.digest().unwrap().to_string(), D);
        assert_eq!(Reference::parse("a").unwrap().tagged().familiar(), "a:latest");
    }

    #[test]
    fn refusals() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        for (text, want) in [
            ("", "invalid reference format"),
            (":x", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a@sha256:00", "invalid reference format"),
            ("../etc", "invalid reference format"),
            ("-x.y/a", "invalid reference format"),
            (tag.as_str(), "invalid reference format"),
            ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
            (long.as_str(), "repository name must not be more than 255 characters"),
            (
                &D[7..],
                &format!(
                    "invalid repository name ({}), cannot specify 64-byte hexadecimal strings",
                    &D[7..]
                ),
            ),
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().to_string(), want, "{text}");
        }
    }

    #[test]
    fn ids() {
        for text in [D, &D[7..]] {
            assert!(matches!(Reference::parse_any(text), Ok(AnyReference::Id(_))));
        }
        assert!(matches!(Reference::parse_any("e3b0c44"), Ok(AnyReference::Name(_))));
    }
}

//! Resource limits of processes (`--ulimit`).

use std::str::FromStr;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use skep_types::Ulimit;
use skep_types::check::{self, Malformed};

/// A limit that does not exist or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum RlimitError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("could not build limit {name}")]
    Build {
        name: String,
        #[source]
        source: oci_spec::OciSpecError,
    },
}

/// One limit by Docker's short name (`nofile`); −1 means unlimited.
pub fn rlimit(name: &str, soft: i64, hard: i64) -> Result<PosixRlimit, RlimitError> {
    check::ulimit(&Ulimit { name: name.to_owned(), soft, hard })?;
    let kind = PosixRlimitType::from_str(&format!("RLIMIT_{}", name.to_ascii_uppercase()))
        .map_err(|_| Malformed::UlimitType { name: name.to_owned() })?;
    let value = |v: i64| u64::try_from(v).unwrap_or(u64::MAX);
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(value(soft))
        .hard(value(hard))
        .build()
        .map_err(|source| RlimitError::Build { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order() {
        let limit = rlimit("nofile", 10, -1).expect("valid");
        assert_eq!(
            (limit.typ(), limit.soft(), limit.hard()),
            (PosixRlimitType::RlimitNofile, 10, u64::MAX)
        );
        for name in [
            "as",
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ] {
            rlimit(name, 1, 1).expect(name);
        }
        assert!(matches!(rlimit("speed", 1, 1), Err(RlimitError::Malformed(_))));
        assert!(matches!(
            rlimit("core", 2, 1),
            Err(RlimitError::Malformed(Malformed::UlimitOrder { soft: 2, hard: 1 }))
        ));
    }
}

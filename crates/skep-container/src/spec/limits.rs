//! Resource limits of processes (`--ulimit`).

use std::str::FromStr;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// A limit that does not exist or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum RlimitError {
    #[error("invalid ulimit type: {name}")]
    Unknown { name: String },
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftAboveHard { soft: i64, hard: i64 },
    #[error("could not build limit {name}")]
    Build {
        name: String,
        #[source]
        source: oci_spec::OciSpecError,
    },
}

/// One limit by Docker's short name (`nofile`); −1 means unlimited.
pub fn rlimit(name: &str, soft: i64, hard: i64) -> Result<PosixRlimit, RlimitError> {
    let kind = PosixRlimitType::from_str(&format!("RLIMIT_{}", name.to_ascii_uppercase()))
        .map_err(|_| RlimitError::Unknown { name: name.to_owned() })?;
    let value = |v: i64| u64::try_from(v).unwrap_or(u64::MAX);
    if value(soft) > value(hard) {
        return Err(RlimitError::SoftAboveHard { soft, hard });
    }
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
        assert!(matches!(rlimit("speed", 1, 1), Err(RlimitError::Unknown { .. })));
        assert!(matches!(
            rlimit("core", 2, 1),
            Err(RlimitError::SoftAboveHard { soft: 2, hard: 1 })
        ));
    }
}

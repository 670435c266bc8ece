use std::net::Ipv6Addr;

use thiserror::Error;

use crate::defaults::{MAX_SUBNET_SIZE, SUBNET_SIZE};
use crate::{Cidr, ParseCidrError};

/// Why networks cannot be cut from a pool. Texts are those of Docker's daemon where it has some.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PoolFault {
    #[error(transparent)]
    Malformed(#[from] ParseCidrError),
    #[error("invalid CIDR: \"{text}\". IPv6 default address pools are not supported")]
    Ipv6 { text: String },
    #[error("invalid CIDR: \"{pool}\": {why}")]
    Unusable { pool: Cidr, why: &'static str },
    #[error("subnet size is out of range: {size}: must be at most {max}")]
    Size { size: u32, max: u32 },
    #[error("invalid CIDR: \"{pool}\". Subnet size is too small for pool: {size}")]
    Smaller { pool: Cidr, size: u32 },
    #[error("invalid CIDR: \"{pool}\" overlaps with \"{other}\"")]
    Overlap { pool: Cidr, other: Cidr },
}

/// Reads a pool; host bits are cleared.
///
/// # Errors
/// [`PoolFault::Malformed`], [`PoolFault::Ipv6`].
pub fn pool_text(text: &str) -> Result<Cidr, PoolFault> {
    let address = text.split_once('/').map(|(address, _)| address);
    if address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(PoolFault::Ipv6 { text: text.to_owned() });
    }
    Ok(text.parse::<Cidr>()?.network())
}

/// Checks a pool that is cut into subnets of prefix length `size`, which may be `max` at most.
///
/// # Errors
/// [`PoolFault::Unusable`], [`PoolFault::Size`], [`PoolFault::Smaller`].
pub fn pool(pool: Cidr, size: u32, max: u32) -> Result<(), PoolFault> {
    if size > max {
        return Err(PoolFault::Size { size, max });
    }
    if u32::from(pool.prefix()) > size {
        return Err(PoolFault::Smaller { pool, size });
    }
    match pool.unusable() {
        Some(why) => Err(PoolFault::Unusable { pool, why }),
        None => Ok(()),
    }
}

/// The pools of a swarm's networks and the prefix length of what is cut from them, 24 for 0.
///
/// # Errors
/// [`PoolFault`].
pub fn swarm_pools(texts: &[String], size: u32) -> Result<(Vec<Cidr>, u32), PoolFault> {
    let size = if size == 0 { SUBNET_SIZE } else { size };
    if size > MAX_SUBNET_SIZE {
        return Err(PoolFault::Size { size, max: MAX_SUBNET_SIZE });
    }
    let mut pools: Vec<Cidr> = Vec::new();
    for text in texts {
        let next = pool_text(text)?;
        pool(next, size, MAX_SUBNET_SIZE)?;
        if let Some(other) = pools.iter().find(|other| other.overlaps(&next)) {
            return Err(PoolFault::Overlap { pool: next, other: *other });
        }
        pools.push(next);
    }
    Ok((pools, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(texts: &[&str], size: u32) -> Result<(String, u32), String> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let found = swarm_pools(&texts, size).map_err(|e| e.to_string());
        found.map(|(pools, size)| (format!("{pools:?}"), size))
    }

    #[test]
    fn pools_are_canonical_and_disjoint() {
        assert_eq!(pools(&["10.20.3.4/16"], 0), Ok(("[10.20.0.0/16]".to_owned(), 24)));
        assert_eq!(pools(&[], 26), Ok(("[]".to_owned(), 26)));
        let overlap = pools(&["10.0.0.0/8", "10.1.0.0/16"], 0).unwrap_err();
        assert_eq!(overlap, "invalid CIDR: \"10.1.0.0/16\" overlaps with \"10.0.0.0/8\"");
    }

    #[test]
    fn bad_pools_are_named() {
        for bad in ["10.0.0.0", "10.0.0/8", "10.0.0.0/33", "x/8", "10.0.0.0/"] {
            assert_eq!(pools(&[bad], 0), Err(format!("invalid CIDR address: {bad}")));
        }
        for (bad, size, says) in [
            ("10.0.0.0/26", 24, "too small for pool: 24"),
            ("10.0.0.0/8", 30, "must be at most 29"),
            ("fd00::/64", 0, "IPv6"),
            ("127.0.0.0/8", 0, "loopback"),
            ("0.0.0.0/0", 0, "this host"),
            ("224.0.0.0/8", 0, "multicast"),
        ] {
            let refused = pools(&[bad], size).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        assert!(pools(&[], 30).is_err());
    }
}

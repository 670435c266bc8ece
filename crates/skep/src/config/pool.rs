use serde::Deserialize;
use skep_types::{Cidr, check};

use super::ConfigError;

/// The largest prefix length of a network of this host: it needs room for its gateway and a container.
const MAX_SIZE: u32 = 30;

/// A pool that new local networks take their subnets from: `base` cut into networks of `size` bits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPool {
    /// CIDR.
    pub base: String,
    /// Prefix length of each network, at least that of `base`.
    pub size: u8,
}

impl AddressPool {
    /// Reads the flag's form, `base=10.0.0.0/8,size=24`.
    pub fn parse_flag(text: &str) -> Result<Self, ConfigError> {
        let mut base = None;
        let mut size = None;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("base", value)) => base = Some(value.to_owned()),
                Some(("size", value)) => {
                    size =
                        Some(value.parse().map_err(|_| refuse(text, "size is no prefix length"))?);
                }
                _ => return Err(refuse(text, "use base=CIDR,size=BITS")),
            }
        }
        match (base, size) {
            (Some(base), Some(size)) => Ok(Self { base, size }),
            _ => Err(refuse(text, "use base=CIDR,size=BITS")),
        }
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        let whole = format!("{},{}", self.base, self.size);
        let base = self.base.parse::<Cidr>();
        let base = base.map_err(|_| refuse(&whole, "the base is no IPv4 network"))?;
        check::pool(base.network(), self.size.into(), MAX_SIZE)
            .map_err(|fault| refuse(&whole, &fault.to_string()))
    }
}

fn refuse(value: &str, reason: &str) -> ConfigError {
    ConfigError::Value {
        what: "default address pool",
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_checked() {
        let good = AddressPool::parse_flag("base=10.10.0.0/16,size=24").unwrap();
        assert!(good.check().is_ok());
        for text in ["10.0.0.0/8", "base=10.0.0.0/8", "base=10.0.0.0/8,size=x"] {
            assert!(AddressPool::parse_flag(text).is_err(), "{text}");
        }
        for (base, size) in [
            ("10.0.0.0/8", 7),
            ("10.0.0.0", 24),
            ("10.0.0.0/8", 31),
            ("x/8", 24),
            ("127.0.0.0/8", 24),
        ] {
            assert!(AddressPool { base: base.into(), size }.check().is_err(), "{base} {size}");
        }
    }
}

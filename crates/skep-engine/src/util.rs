//! Small things used everywhere.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What Go prints for a time that never was.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Runs blocking work aside. A panic in it is passed on.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

/// 32 random bytes as 64 lower-case hex digits: ids of containers, execs, sandboxes and volumes.
///
/// A container's host name is the short id. One of digits alone would be read as an address by every
/// resolver (`032614272775` is 214.49.117.253 in octal), so that none is handed out, as in Docker.
pub fn random_id() -> String {
    loop {
        let id = hex::encode(rand::random::<[u8; 32]>());
        if !short(&id).bytes().all(|b| b.is_ascii_digit()) {
            return id;
        }
    }
}

/// RFC 3339 in UTC with nanoseconds, as Docker prints times.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_else(|_| ZERO_TIME.to_owned())
}

/// As [`rfc3339`], with Go's zero time for none.
pub fn rfc3339_or_zero(at: Option<OffsetDateTime>) -> String {
    at.map_or_else(|| ZERO_TIME.to_owned(), rfc3339)
}

/// Now, in UTC.
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// First 12 characters of an id.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_short_id_can_be_read_as_a_number() {
        // One of 281 random ones could.
        let wrong: Vec<String> = (0..10_000)
            .map(|_| random_id())
            .filter(|id| short(id).parse::<u64>().is_ok())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

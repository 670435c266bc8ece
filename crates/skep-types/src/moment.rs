//! Points in time as users write them in filters: Docker's `until=`, `since=`.
//!
//! Docker reads a date without a zone in the daemon's own; here it is UTC.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Nanos;

/// A span of time before `now` such as `1h30m`, a date, or seconds since 1970.
pub fn moment(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    // A bare 0 is a span to Go; as a point in time it is 1970.
    let span = text.parse().ok().filter(|_| text != "0");
    match span {
        Some(Nanos(nanos)) => now.checked_sub(time::Duration::nanoseconds(nanos)),
        None => date(text).or_else(|| unix_time(text)),
    }
}

/// RFC 3339, of which minutes, seconds, the time as a whole and the zone may be left out.
pub fn date(text: &str) -> Option<OffsetDateTime> {
    let (day, rest) = text.split_at_checked(10)?;
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let time = match time.len() {
        0 => "T00:00:00".to_owned(),
        // T15, T15:04
        3 => format!("{time}:00:00"),
        6 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    let zone = if zone.is_empty() { "Z" } else { zone };
    OffsetDateTime::parse(&format!("{day}{time}{zone}"), &Rfc3339).ok()
}

/// Seconds since 1970 with up to nine decimals.
pub fn unix_time(text: &str) -> Option<OffsetDateTime> {
    let (secs, decimals) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = secs.parse().ok()?;
    if decimals.len() > 9 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{decimals:0<9}").parse().ok()?;
    let second = OffsetDateTime::from_unix_timestamp(secs).ok()?;
    second.checked_add(time::Duration::nanoseconds(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read_as_docker_reads_them() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(2);
        const DAY: i128 = 86_400_000_000_000;
        for (text, want) in [
            ("0", Some(0)),
            ("86400", Some(DAY)),
            ("86400.5", Some(DAY + 500_000_000)),
            ("86400.000000001", Some(DAY + 1)),
            ("-1", Some(-1_000_000_000)),
            ("24h", Some(DAY)),
            ("23h60m", Some(DAY)),
            ("-24h", Some(3 * DAY)),
            ("23h59m59.5s", Some(DAY + 500_000_000)),
            ("1970-01-02T00:00:00Z", Some(DAY)),
            ("1970-01-02T01:00:00+01:00", Some(DAY)),
            ("1970-01-01T23:00:00-01:00", Some(DAY)),
            ("1970-01-02T00:00:00.25Z", Some(DAY + 250_000_000)),
            ("1970-01-02T00:00:00", Some(DAY)),
            ("1970-01-02T00:00", Some(DAY)),
            ("1970-01-02T00", Some(DAY)),
            ("1970-01-02", Some(DAY)),
            ("1970-01-02Z", Some(DAY)),
            ("1970-01-02+01:00", Some(DAY - DAY / 24)),
            ("1970-01-02T00:30Z", Some(DAY + DAY / 48)),
            ("", None),
            ("x", None),
            ("1970-01-32", None),
            ("1970-13-02T00:00:00Z", None),
            ("1970-01-02T", None),
            ("5d", None),
            ("1e300h", None),
            ("1.1234567890", None),
            ("99999999999999999", None),
            ("1970-01-0ä", None),
        ] {
            assert_eq!(moment(text, now).map(|t| t.unix_timestamp_nanos()), want, "{text}");
        }
    }
}

//! The wall clock, by which certificates are judged.

use skep_types::Timestamp;
use time::OffsetDateTime;

pub(super) fn now() -> Timestamp {
    Timestamp::new(OffsetDateTime::now_utc())
}

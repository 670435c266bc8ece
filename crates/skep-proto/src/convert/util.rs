//! Small steps that all conversions share.

use prost_types::{Duration as PbDuration, Timestamp as PbTimestamp};
use skep_types::{Nanos, Timestamp};

use crate::ConvertError;

pub(super) type Result<T> = std::result::Result<T, ConvertError>;

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// Encodes a list of borrowed values.
pub(super) fn list<'a, T, P: From<&'a T>>(values: &'a [T]) -> Vec<P> {
    values.iter().map(P::from).collect()
}

/// Encodes a value that may be absent.
pub(super) fn maybe<'a, T, P: From<&'a T>>(value: &'a Option<T>) -> Option<P> {
    value.as_ref().map(P::from)
}

/// Encodes a value whose default means "absent".
pub(super) fn unless_default<'a, T: Default + PartialEq, P: From<&'a T>>(
    value: &'a T,
) -> Option<P> {
    (*value != T::default()).then(|| P::from(value))
}

/// Decodes a list; an error names the element.
pub(super) fn try_list<P, T>(field: &str, values: Vec<P>) -> Result<Vec<T>>
where
    T: TryFrom<P, Error = ConvertError>,
{
    values
        .into_iter()
        .enumerate()
        .map(|(i, value)| T::try_from(value).map_err(|e| e.within(&format!("{field}[{i}]"))))
        .collect()
}

/// Decodes a value that may be absent.
pub(super) fn try_maybe<P, T>(field: &str, value: Option<P>) -> Result<Option<T>>
where
    T: TryFrom<P, Error = ConvertError>,
{
    value.map(|v| T::try_from(v).map_err(|e| e.within(field))).transpose()
}

/// Decodes a value for which absent means its default.
pub(super) fn try_or_default<P, T>(field: &str, value: Option<P>) -> Result<T>
where
    T: TryFrom<P, Error = ConvertError> + Default,
{
    Ok(try_maybe(field, value)?.unwrap_or_default())
}

/// Decodes an infallible list.
pub(super) fn into_list<P, T: From<P>>(values: Vec<P>) -> Vec<T> {
    values.into_iter().map(T::from).collect()
}

/// Decodes an infallible value for which absent means its default.
pub(super) fn into_or_default<P, T: From<P> + Default>(value: Option<P>) -> T {
    value.map(T::from).unwrap_or_default()
}

/// Decodes an enum number through the generated enum `P`.
pub(super) fn known<P: TryFrom<i32>, T: From<P>>(
    field: &str,
    kind: &'static str,
    value: i32,
) -> Result<T> {
    P::try_from(value).map(T::from).map_err(|_| ConvertError::UnknownEnum {
        field: field.to_owned(),
        kind,
        value,
    })
}

pub(super) fn utf8(field: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| ConvertError::NotUtf8 { field: field.to_owned() })
}

pub(super) fn duration(span: Nanos) -> PbDuration {
    PbDuration {
        seconds: span.0 / NANOS_PER_SEC,
        // Below 10^9 in either direction.
        nanos: i32::try_from(span.0 % NANOS_PER_SEC).unwrap_or_default(),
    }
}

pub(super) fn nanos(field: &str, span: PbDuration) -> Result<Nanos> {
    span.seconds
        .checked_mul(NANOS_PER_SEC)
        .and_then(|n| n.checked_add(i64::from(span.nanos)))
        .map(Nanos)
        .ok_or_else(|| ConvertError::Time {
            field: field.to_owned(),
            secs: span.seconds,
            nanos: span.nanos,
        })
}

pub(super) fn maybe_nanos(field: &str, span: Option<PbDuration>) -> Result<Option<Nanos>> {
    span.map(|s| nanos(field, s)).transpose()
}

/// Absent means zero.
pub(super) fn nanos_or_zero(field: &str, span: Option<PbDuration>) -> Result<Nanos> {
    Ok(maybe_nanos(field, span)?.unwrap_or_default())
}

/// Zero is absent: Docker takes a present zero at its word where it has a default for none.
pub(super) fn duration_unless_zero(span: Nanos) -> Option<PbDuration> {
    (span.0 != 0).then(|| duration(span))
}

pub(super) fn pb_timestamp(moment: Timestamp) -> PbTimestamp {
    PbTimestamp {
        seconds: moment.unix_secs(),
        // Below 10^9.
        nanos: i32::try_from(moment.subsec_nanos()).unwrap_or_default(),
    }
}

/// Go's zero time is absent.
pub(super) fn timestamp_unless_zero(moment: Timestamp) -> Option<PbTimestamp> {
    (!moment.is_zero()).then(|| pb_timestamp(moment))
}

pub(super) fn maybe_timestamp(
    field: &str,
    moment: Option<PbTimestamp>,
) -> Result<Option<Timestamp>> {
    moment
        .map(|m| {
            Timestamp::from_unix(m.seconds, m.nanos).ok_or_else(|| ConvertError::Time {
                field: field.to_owned(),
                secs: m.seconds,
                nanos: m.nanos,
            })
        })
        .transpose()
}

/// Absent means Go's zero time.
pub(super) fn timestamp_or_zero(field: &str, moment: Option<PbTimestamp>) -> Result<Timestamp> {
    Ok(maybe_timestamp(field, moment)?.unwrap_or_default())
}

/// Bounds a number to what its narrower wire type holds; validation has refused such values before.
pub(super) fn clamp_u32(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn clamp_i32(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// `From<Object>` beside `From<&Object>`, for callers that own one.
macro_rules! owned {
    ($($name:ident),* $(,)?) => {$(
        impl From<skep_types::$name> for crate::v1::$name {
            fn from(value: skep_types::$name) -> Self {
                Self::from(&value)
            }
        }
    )*};
}
pub(super) use owned;

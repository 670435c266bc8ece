//! Makes arbitrary values from a run of bytes; when the bytes end, everything is zero or empty.

use std::collections::BTreeMap;

use skep_types::{Bytes64, Nanos, Timestamp};

pub(super) struct Chance<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Chance<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    pub(super) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::from(self.byte()) % values.len()]
    }
}

pub(super) trait Make {
    fn make(chance: &mut Chance<'_>) -> Self;
}

impl Make for bool {
    fn make(chance: &mut Chance<'_>) -> Self {
        chance.byte() % 2 == 1
    }
}

macro_rules! numbers {
    ($($name:ty)*) => {$(
        impl Make for $name {
            fn make(chance: &mut Chance<'_>) -> Self {
                let small = <$name>::from(chance.byte());
                match chance.byte() % 4 {
                    0 => <$name>::MAX - small,
                    1 => <$name>::MIN + small,
                    _ => small,
                }
            }
        }
    )*};
}
numbers!(u32 u64 i32 i64);

impl Make for f32 {
    fn make(chance: &mut Chance<'_>) -> Self {
        f32::from(chance.byte()) / 255.0
    }
}

impl Make for String {
    fn make(chance: &mut Chance<'_>) -> Self {
        let len = chance.byte() % 4;
        (0..len).map(|_| char::from(chance.byte())).collect()
    }
}

impl Make for Bytes64 {
    fn make(chance: &mut Chance<'_>) -> Self {
        let len = chance.byte() % 4;
        (0..len).map(|_| chance.byte()).collect::<Vec<_>>().into()
    }
}

impl Make for Nanos {
    fn make(chance: &mut Chance<'_>) -> Self {
        Self(i64::make(chance))
    }
}

impl Make for Timestamp {
    fn make(chance: &mut Chance<'_>) -> Self {
        if !bool::make(chance) {
            return Self::ZERO;
        }
        let secs = i64::from(u32::make(chance)) - (1 << 31);
        Self::from_unix(secs, i32::from(chance.byte()) * 3_900_000).expect("in the calendar")
    }
}

impl<T: Make> Make for Option<T> {
    fn make(chance: &mut Chance<'_>) -> Self {
        (chance.byte() % 2 == 1).then(|| T::make(chance))
    }
}

impl<T: Make> Make for Vec<T> {
    fn make(chance: &mut Chance<'_>) -> Self {
        let len = chance.byte() % 3;
        (0..len).map(|_| T::make(chance)).collect()
    }
}

impl<T: Make> Make for BTreeMap<String, T> {
    fn make(chance: &mut Chance<'_>) -> Self {
        let len = chance.byte() % 3;
        (0..len).map(|_| (String::make(chance), T::make(chance))).collect()
    }
}

/// Structs field by field, so that a new field breaks the build until a conversion carries it.
macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Make for skep_types::$name {
            fn make(chance: &mut Chance<'_>) -> Self {
                Self { $($field: Make::make(chance)),* }
            }
        }
    )*};
}
pub(super) use structs;

macro_rules! enums {
    ($($name:ident: $($member:ident)+;)*) => {$(
        impl Make for skep_types::$name {
            fn make(chance: &mut Chance<'_>) -> Self {
                chance.pick(&[$(Self::$member),+])
            }
        }
    )*};
}
pub(super) use enums;

macro_rules! ids {
    ($($name:ident)*) => {$(
        impl Make for skep_types::$name {
            fn make(chance: &mut Chance<'_>) -> Self {
                String::make(chance).into()
            }
        }
    )*};
}
pub(super) use ids;

//! Two maps side by side. What changed among hundreds of things is looked for at each change, and to find each of them in
//! the other map would be most of the work.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Every key of either map, in order, with what each has.
pub fn join<'a, K: Ord, A, B>(
    one: &'a BTreeMap<K, A>,
    other: &'a BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, Option<&'a A>, Option<&'a B>)> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let mine = if order.is_le() { one.next() } else { None };
        let its = if order.is_ge() { other.next() } else { None };
        let key = mine.map(|(key, _)| key).or(its.map(|(key, _)| key))?;
        Some((key, mine.map(|(_, value)| value), its.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_keys_are_met_once(one: BTreeMap<u8, u8>, other: BTreeMap<u8, i8>) {
            let mut keys: Vec<u8> = one.keys().chain(other.keys()).copied().collect();
            keys.sort_unstable();
            keys.dedup();
            let expected: Vec<_> = keys.iter().map(|k| (k, one.get(k), other.get(k))).collect();
            prop_assert_eq!(join(&one, &other).collect::<Vec<_>>(), expected);
        }
    }
}

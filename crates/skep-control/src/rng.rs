/// A source of chance, passed in by the caller: a system source in production, a seeded one in tests.
///
/// An implementer must fill the whole slice; ids, join tokens and keys are made from it, so in
/// production it must be fit for cryptography.
pub trait Rng {
    fn fill(&mut self, out: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Rng for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// A fresh object id of any kind.
pub fn new_id<T: From<String>>(rng: &mut dyn Rng) -> T {
    let mut bytes = [0; 17];
    rng.fill(&mut bytes);
    T::from(skep_types::id_from_random(bytes))
}

/// A number below `limit`; 0 if the limit is 0. Its bias, at most `limit` in 2^64, does not matter here.
pub fn below(rng: &mut dyn Rng, limit: u64) -> u64 {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes);
    u64::from_le_bytes(bytes).checked_rem(limit).unwrap_or(0)
}

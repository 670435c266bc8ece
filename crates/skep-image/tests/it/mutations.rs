//! The fuzz targets' entry points on damaged input, the same damage each time.

use skep_image::fuzz::{fuzz_load, fuzz_manifest, fuzz_reference, fuzz_tar};

use crate::support::{Layer, small};

/// A small generator: the test must not depend on chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b'0'),
            }
        }
    }
}

/// Rights the checksum of every header, so that damage gets past it.
fn right_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn damaged_input_is_refused_without_a_panic() {
    let mut chance = Chance(0x5eed);
    let archive = small("x:1", "x");
    let tar = Layer::new()
        .xattr("user.a", b"b")
        .file("f", b"x")
        .hardlink("h", "f")
        .symlink("s", "f")
        .done();
    let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"x",
        "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,
        "platform":{"os":"linux","architecture":"amd64"}}]}"#;
    for round in 0..300 {
        let mut bytes = tar.clone();
        chance.damage(&mut bytes);
        right_checksums(&mut bytes);
        fuzz_tar(&bytes);
        let mut bytes = manifest.to_vec();
        chance.damage(&mut bytes);
        fuzz_manifest(&bytes);
        let mut bytes = b"localhost:5000/some_name/app:1.0-rc@sha256:00".to_vec();
        chance.damage(&mut bytes);
        fuzz_reference(&bytes);
        if round % 6 == 0 {
            let mut bytes = archive.clone();
            chance.damage(&mut bytes);
            right_checksums(&mut bytes);
            fuzz_load(&bytes);
        }
    }
}

//! Entry points for fuzzing: whatever the bytes, they return. Not for other use.

use crate::{
    compress::{Bounded, decoder},
    config::ImageConfig,
    manifest::Document,
    progress::Progress,
    settings::{Limits, RegistryConfig, Settings},
    store::{Images, Work},
};

/// A docker-save or OCI archive, through to the unpacked layers, in a scratch store.
///
/// # Panics
/// When no scratch store can be made.
pub fn fuzz_load(bytes: &[u8]) {
    let folder = std::env::temp_dir().join(format!("skep-image-fuzz-{}", std::process::id()));
    let limits =
        Limits { layer_bytes: 1 << 20, entries: 1000, archive_bytes: 4 << 20, ..Limits::default() };
    let settings = Settings { limits, ..RegistryConfig::default().into() };
    let images =
        Images::open_with(folder, settings).expect("a scratch store in the temporary folder");
    let work = Work::start(&images.inner).expect("a scratch folder");
    // Refusing is as good as accepting.
    let _outcome = crate::archive::load(bytes, &work, &Progress::none());
}

/// A manifest or index, and an image configuration.
pub fn fuzz_manifest(bytes: &[u8]) {
    for header in [None, Some(crate::manifest::media_type::OCI_INDEX)] {
        if let Ok(Document::Index(index)) = Document::parse(bytes, header, 256) {
            let _entry = index.choose(&crate::platform::Platform::host());
        }
    }
    let _config = serde_json::from_slice::<ImageConfig>(bytes)
        .map(|config| (config.created_at(), config.platform()));
}

/// A tar stream, member by member.
pub fn fuzz_tar(bytes: &[u8]) {
    let Ok((_, plain)) = decoder(bytes) else { return };
    let mut reader = crate::tar::Reader::new(Bounded::new(plain, 1 << 20));
    while let Ok(Some(_)) = reader.next() {}
}

/// Names.
pub fn fuzz_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = crate::Reference::parse(text) {
        assert_eq!(crate::Reference::parse(&reference.to_string()).as_ref(), Ok(&reference));
    }
}

//! Messages that hold keys, tokens or secrets print their name only, so that no log shows them.

use std::fmt;

use crate::v1;

macro_rules! redacted {
    ($($name:ty),* $(,)?) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

redacted! {
    v1::CaConfig,
    v1::EncryptionKey,
    v1::GetUnlockKeyResponse,
    v1::IssueNodeCertificateRequest,
    v1::JoinTokens,
    v1::MaybeEncryptedRecord,
    v1::RootCa,
    v1::RootRotation,
    v1::SecretSpec,
    v1::VolumeSecret,
    v1::container_spec::PullOptions,
}

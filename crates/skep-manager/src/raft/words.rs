//! What openraft is told of errors, and what is told of openraft's, in words for users.

use std::error::Error;

use openraft::AnyError;

/// An error for openraft, with the text of its whole chain. Openraft's own way puts the names of Rust's types in
/// front of each.
pub fn in_words(error: &(dyn Error + 'static)) -> AnyError {
    AnyError::error(skep_types::report(error))
}

/// Why raft failed: the error that it was given if there is one, without openraft's words for the step.
pub fn reason(error: &(dyn Error + 'static)) -> String {
    let mut chain = Some(error);
    while let Some(link) = chain {
        if let Some(given) = link.downcast_ref::<AnyError>() {
            return given.to_string();
        }
        chain = link.source();
    }
    skep_types::report(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::error::Fatal;
    use openraft::{StorageError, StorageIOError};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write the raft log /x/log.redb")]
    struct Failed(#[source] std::io::Error);

    #[test]
    fn a_failing_disk_is_told_without_names_of_types() {
        let failed = Failed(std::io::Error::other("no room"));
        let storage: StorageError<u64> = StorageIOError::write_logs(in_words(&failed)).into();
        let words = "cannot write the raft log /x/log.redb: no room";
        assert_eq!(reason(&Fatal::from(storage.clone())), words);
        assert_eq!(reason(&storage), words);
        assert_eq!(reason(&Fatal::<u64>::Panicked), "panicked");
    }
}

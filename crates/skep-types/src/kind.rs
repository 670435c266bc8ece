/// What a caller should make of an error, whatever family it is of: each family sorts its errors into these, and a
/// door turns them into its own words once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing to do: the object is in the wanted state.
    NotModified,
    /// The request is wrong and stays wrong.
    InvalidParameter,
    /// A name or a part of an id fits several objects.
    Ambiguous,
    /// The swarm's state forbids it now.
    FailedPrecondition,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Known, but not allowed; or not for this object.
    Forbidden,
    /// The named thing is not there.
    NotFound,
    /// The name is in use.
    AlreadyExists,
    /// The operation contradicts the present state of this host.
    Conflict,
    /// The object changed since the version that the caller named: read again, then retry.
    OutOfSequence,
    /// The caller went away.
    Cancelled,
    /// A fault of ours, or of this host: disk, memory, kernel.
    System,
    /// Valid, but not done here.
    NotImplemented,
    /// Somebody else cannot be reached or is not ready: later may help.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status that Docker's API answers with.
    pub const fn status(self) -> u16 {
        match self {
            Self::NotModified => 304,
            Self::InvalidParameter | Self::Ambiguous | Self::FailedPrecondition => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            // Docker answers a stale version with 500; clients know it by its text.
            Self::OutOfSequence | Self::Cancelled | Self::System => 500,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorKind::*;

    #[test]
    fn statuses_are_dockers() {
        for (status, kinds) in [
            (304, vec![NotModified]),
            (400, vec![InvalidParameter, Ambiguous, FailedPrecondition]),
            (401, vec![Unauthorized]),
            (403, vec![Forbidden]),
            (404, vec![NotFound]),
            (409, vec![AlreadyExists, Conflict]),
            (500, vec![OutOfSequence, Cancelled, System]),
            (501, vec![NotImplemented]),
            (503, vec![Unavailable]),
        ] {
            for kind in kinds {
                assert_eq!(kind.status(), status, "{kind:?}");
            }
        }
    }
}

//! What is to be done about an error, whatever family it is of.

/// What the caller should do about an error; the API maps it to Docker's HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The named object does not exist (404).
    NotFound,
    /// The operation contradicts the present state (409).
    Conflict,
    /// The caller's input is wrong and repeating it will not help (400).
    InvalidParameter,
    /// Missing or refused credentials (401).
    Unauthorized,
    /// Known identity, but not allowed (403).
    Forbidden,
    /// A remote side cannot be reached or is overloaded; later may help (503; Docker says 500).
    Unavailable,
    /// Valid, but this program does not do it (501).
    NotImplemented,
    /// The caller went away.
    Cancelled,
    /// This host failed: disk, memory, kernel (500).
    System,
}

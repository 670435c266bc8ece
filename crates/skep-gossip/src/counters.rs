/// Why something that came in was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// It ends too early.
    Truncated,
    /// A part has another shape than its message demands.
    Malformed,
    /// A message type nobody defined, or one that does not travel this way.
    UnknownType,
    /// It carries a label; skep's clusters have none.
    Label,
    /// It is plain, and we have keys.
    NotEncrypted,
    /// It is encrypted, and none of our keys opens it.
    NoKey,
    /// Its CRC is another.
    Checksum,
    /// It cannot be inflated.
    Inflate,
    /// It, or what it inflates to, is larger than we take.
    TooLarge,
    /// It nests too deep.
    TooDeep,
    /// Its protocol versions and ours do not overlap.
    Version,
    /// A ping for another name than ours: the address is ours now.
    OtherNode,
    /// An answer to no question of ours, or too late.
    Unasked,
    /// It is about a node that we do not know.
    UnknownNode,
    /// Two nodes with one name, or a name that claims a taken address.
    Conflict,
    /// It is about a network that we, or its author, are not in.
    NotAttached,
    /// A logical clock beyond reason.
    AbsurdClock,
    /// The table that should hold it is full.
    Full,
    /// The other side reported an error.
    PeerError,
}

impl DropCause {
    /// Every cause, in the order of [`Counters::dropped`].
    pub const ALL: [Self; 19] = [
        Self::Truncated,
        Self::Malformed,
        Self::UnknownType,
        Self::Label,
        Self::NotEncrypted,
        Self::NoKey,
        Self::Checksum,
        Self::Inflate,
        Self::TooLarge,
        Self::TooDeep,
        Self::Version,
        Self::OtherNode,
        Self::Unasked,
        Self::UnknownNode,
        Self::Conflict,
        Self::NotAttached,
        Self::AbsurdClock,
        Self::Full,
        Self::PeerError,
    ];

    /// The cause as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::Label => "label",
            Self::NotEncrypted => "not_encrypted",
            Self::NoKey => "no_key",
            Self::Checksum => "checksum",
            Self::Inflate => "inflate",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::Version => "version",
            Self::OtherNode => "other_node",
            Self::Unasked => "unasked",
            Self::UnknownNode => "unknown_node",
            Self::Conflict => "conflict",
            Self::NotAttached => "not_attached",
            Self::AbsurdClock => "absurd_clock",
            Self::Full => "full",
            Self::PeerError => "peer_error",
        }
    }
}

/// What happened since the start; every number only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets taken in, good or bad.
    pub packets_in: u64,
    /// Packets given out.
    pub packets_out: u64,
    /// Streams taken in, good or bad.
    pub streams_in: u64,
    /// Streams asked for.
    pub streams_out: u64,
    /// Probes that nobody answered in any way.
    pub probes_failed: u64,
    /// Probes that were answered by way of others only.
    pub probes_by_others: u64,
    /// Probes that only the stream answered: UDP is blocked.
    pub probes_by_stream: u64,
    /// Times this node had to deny its own failure.
    pub refutations: u64,
    /// Entries removed because their owner, asked for all it has, did not have them.
    pub entries_swept: u64,
    dropped: [u64; DropCause::ALL.len()],
}

impl Counters {
    /// How many messages were dropped for `cause`.
    pub fn dropped(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    /// How many messages were dropped in all.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(crate) fn drop(&mut self, cause: DropCause) {
        self.dropped[cause as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_place_and_label() {
        for (place, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            assert_eq!(DropCause::ALL.iter().filter(|c| c.as_str() == cause.as_str()).count(), 1);
        }
    }
}

//! What long operations tell while they run.

use std::borrow::Cow;

use tokio::sync::mpsc;

/// One line of progress, shaped for Docker's JSON message stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Short layer id, tag, or none for a line about the whole operation.
    pub id: Option<String>,
    /// Docker's word, such as `Downloading` or `Pull complete`.
    pub status: Cow<'static, str>,
    /// Bytes done, where a bar makes sense.
    pub current: Option<u64>,
    /// Bytes in all, if known.
    pub total: Option<u64>,
    /// The end of a push: what the tag now points to.
    pub pushed: Option<Pushed>,
}

/// Events of a pull; the same shape as all others.
pub type PullEvent = Event;

/// Result of a pushed tag (`aux` of Docker's stream).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
}

/// Where progress goes. Cheap to clone; events for a listener that left are dropped.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::UnboundedSender<Event>>);

impl Progress {
    /// Nobody listens.
    pub fn none() -> Self {
        Self(None)
    }

    /// A sink and its listening end. The channel ends when the operation has ended and dropped its
    /// clones. Byte counts are throttled at the source, so the queue stays small.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // A listener that left does not stop the operation.
            let _gone = sender.send(event);
        }
    }

    /// A line about one layer or tag.
    pub(crate) fn status(&self, id: impl Into<String>, status: impl Into<Cow<'static, str>>) {
        self.send(Event {
            id: Some(id.into()),
            status: status.into(),
            current: None,
            total: None,
            pushed: None,
        });
    }

    /// A line about the whole operation.
    pub(crate) fn line(&self, status: impl Into<Cow<'static, str>>) {
        self.send(Event {
            id: None,
            status: status.into(),
            current: None,
            total: None,
            pushed: None,
        });
    }

    /// A bar.
    pub(crate) fn bytes(&self, id: &str, status: &'static str, current: u64, total: Option<u64>) {
        self.send(Event {
            id: Some(id.into()),
            status: status.into(),
            current: Some(current),
            total,
            pushed: None,
        });
    }
}

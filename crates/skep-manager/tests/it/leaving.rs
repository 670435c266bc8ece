//! What a manager says when it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};

use crate::rig::{Rig, default_spec};

/// Counts what the leader's lifetime tells the user.
struct Told(Arc<AtomicUsize>);

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().ends_with("leader::lifetime") && *metadata.level() == Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Raft leads on for a moment after the manager was told to stop: that begins nothing anew.
#[tokio::test]
async fn a_manager_that_stops_leads_no_second_time() {
    let told = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Told(told.clone()));
    for life in 1..=8 {
        Rig::new(default_spec()).await.manager.stop().await;
        assert_eq!(told.load(Ordering::Relaxed), 2 * life, "it leads, and leads no longer");
    }
}

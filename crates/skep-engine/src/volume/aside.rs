//! Work that may wait for a file server or a resolver for as long as that pleases.
//!
//! A call that hangs in the kernel cannot be given up, and takes its thread with it. So such work gets
//! threads of its own: those that the rest of the engine does its work on are never used up by it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{EngineError, Result};

/// Threads that may hang at a time.
const PLACES: usize = 64;
/// How long to wait for one that does not.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places for such work.
#[derive(Debug)]
pub struct Aside {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Aside {
    fn default() -> Self {
        Self::new(PLACES, PATIENCE)
    }
}

impl Aside {
    fn new(places: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), patience }
    }

    /// Does work on a thread of its own. It is carried through even if nobody waits any more.
    ///
    /// # Errors
    /// `Unavailable` when so much work hangs already that none of it ends in half a minute; no thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.places.clone().acquire_owned();
        let place = tokio::time::timeout(self.patience, place).await.map_err(|_| {
            EngineError::Unavailable(format!(
                "{} operations on volumes wait for file servers that do not answer",
                PLACES
            ))
        })?;
        on_a_thread(place.ok(), work).await
    }

    /// The same for what has to be done in the end: waits for a place as long as it takes.
    pub async fn run_in_the_end<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.places.clone().acquire_owned().await;
        on_a_thread(place.ok(), work).await
    }
}

/// The semaphore is never closed, so that there always is a place.
async fn on_a_thread<T: Send + 'static>(
    place: Option<OwnedSemaphorePermit>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (answer, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("skep-volume".to_owned()).spawn(move || {
        let _place = place;
        // Who stopped waiting does not need an answer.
        let _ = answer.send(work());
    });
    thread.map_err(|error| EngineError::system("could not start a thread", error))?;
    done.await
        .map_err(|error| EngineError::system("work on a volume ended before it was done", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn what_hangs_uses_up_its_own_places_only() {
        let aside = Arc::new(Aside::new(2, Duration::from_millis(20)));
        let mut held = Vec::new();
        for _ in 0..2 {
            let (go, hang) = mpsc::channel::<()>();
            let (begun, beginning) = oneshot::channel();
            let aside = aside.clone();
            let work = move || {
                begun.send(()).unwrap();
                hang.recv().unwrap();
            };
            held.push((go, tokio::spawn(async move { aside.run(work).await })));
            beginning.await.unwrap();
        }
        let refused = aside.run(|| ()).await.unwrap_err();
        assert!(matches!(refused, EngineError::Unavailable(_)), "{refused:?}");
        for (go, work) in held {
            go.send(()).unwrap();
            work.await.unwrap().unwrap();
        }
        assert_eq!(aside.run(|| 5).await.unwrap(), 5);
    }
}

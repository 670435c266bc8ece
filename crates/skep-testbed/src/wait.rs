use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again every 20 ms until `probe` says `Ok`, and returns its value. At the limit the error
/// shows what was waited for and the last answer.
pub fn until<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= deadline => {
                bail!("waited {limit:?} for {what}; last answer: {last:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

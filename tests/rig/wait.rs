//! Waiting for a state, never for a time. Called by everything that waits.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How long a state is waited for where nothing else is said: long, because machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Tells whoever runs the tests what a test has counted, also when it passes.
pub fn report(line: &str) {
    // Nobody need be listening.
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Looks until there is something to see; `what` names it when it does not come.
///
/// # Errors
/// When it does not come in time, or looking fails.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    within(PATIENCE, what, look).await
}

/// The same with another patience.
///
/// # Errors
/// When it does not come in time, or looking fails.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("not within {patience:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

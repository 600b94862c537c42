//! Long work inside one poll gives the runtime its turn from time to time: whoever watches the stream can
//! then stop it.

use std::time::Instant;

use super::TURN;

/// When the runtime last had its turn.
#[derive(Debug)]
pub(crate) struct Turn(Instant);

impl Turn {
    /// Work begins.
    pub(crate) fn new() -> Self {
        Turn(Instant::now())
    }

    /// Returns to the runtime if it has not had its turn for some milliseconds.
    pub(crate) async fn give(&mut self) {
        if self.0.elapsed() >= TURN {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}

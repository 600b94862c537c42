//! Plain threads for work that keeps a processor busy, with an owner whose drop stops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{IngestError, Result};

/// Tells threads to stop. Clones are one flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks every thread that watches this flag to stop.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error once the flag is set; asked for every batch.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(IngestError::Cancelled) } else { Ok(()) }
    }
}

/// Sets the flag when dropped: the async owner of threads holds one, so that they end with it.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Gives `items`, in order, to `threads` threads. Each thread makes a state, steps it through the items it
/// gets, and closes it. The first error stops all of them and is the answer; otherwise what the states
/// closed with, by thread.
pub(crate) fn share_out<T, S, R>(
    what: &'static str,
    threads: usize,
    stop: &Stop,
    items: Vec<T>,
    open: impl Fn(usize) -> Result<S> + Sync,
    step: impl Fn(&mut S, T) -> Result<()> + Sync,
    close: impl Fn(S) -> Result<R> + Sync,
) -> Result<Vec<R>>
where
    T: Send,
    R: Send,
{
    let threads = threads.clamp(1, items.len().max(1));
    let queue = Mutex::new(items.into_iter());
    let failed = Stop::default();
    let run = |thread: usize| -> Result<R> {
        let mut state = open(thread)?;
        loop {
            stop.check()?;
            failed.check()?;
            let next = queue.lock().next();
            let Some(item) = next else { break };
            step(&mut state, item)?;
        }
        close(state)
    };
    let guarded = |thread: usize| {
        let result = run(thread);
        if result.is_err() {
            failed.set();
        }
        result
    };
    let results: Vec<Result<R>> = std::thread::scope(|scope| {
        let guarded = &guarded;
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || guarded(thread))).collect();
        handles
            .into_iter()
            .map(|handle| {
                handle.join().unwrap_or_else(|_| {
                    failed.set();
                    Err(IngestError::Thread(what))
                })
            })
            .collect()
    });
    first_error(results)
}

/// The error that caused the others to stop is not `Cancelled`.
fn first_error<R>(results: Vec<Result<R>>) -> Result<Vec<R>> {
    let mut done = Vec::with_capacity(results.len());
    let mut error = None;
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(IngestError::Cancelled) if error.is_some() => {}
            Err(IngestError::Cancelled) => error = Some(IngestError::Cancelled),
            Err(other) if matches!(error, None | Some(IngestError::Cancelled)) => error = Some(other),
            Err(_) => {}
        }
    }
    error.map_or(Ok(done), Err)
}

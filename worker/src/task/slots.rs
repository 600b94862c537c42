//! Who may compute now. A slot is the right to keep one processor busy with one chunk.
//!
//! Scans share as many slots as there are processors. A quarter as many more, at least one, are
//! there for interactive tasks alone, so that a cone search never queues behind a full scan: the
//! processors are then shared by time for the short while it takes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Result, WorkerError};

/// Which slots a task may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Few chunks, somebody waits: all slots.
    Interactive,
    /// Many chunks: all but those reserved.
    Scan,
}

/// The slots of one worker. Waiting is first come, first served within a class.
#[derive(Debug)]
pub(crate) struct Slots {
    shared: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
}

impl Slots {
    pub(crate) fn new(cores: usize) -> Slots {
        Slots { shared: Arc::new(Semaphore::new(cores.max(1))), reserved: Arc::new(Semaphore::new((cores / 4).max(1))) }
    }

    async fn acquire(&self, class: Class) -> Result<OwnedSemaphorePermit> {
        let shared = Arc::clone(&self.shared).acquire_owned();
        let permit = match class {
            Class::Scan => shared.await,
            Class::Interactive => tokio::select! {
                biased;
                permit = Arc::clone(&self.reserved).acquire_owned() => permit,
                permit = shared => permit,
            },
        };
        permit.map_err(|_closed| WorkerError::ShuttingDown)
    }
}

/// One lane's slot, held or not; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    class: Class,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    pub(crate) fn new(slots: Arc<Slots>, class: Class) -> Slot {
        Slot { slots, class, permit: None }
    }

    /// Waits for a slot unless one is held.
    pub(crate) async fn hold(&mut self) -> Result<()> {
        if self.permit.is_none() {
            self.permit = Some(self.slots.acquire(self.class).await?);
        }
        Ok(())
    }

    /// Gives the slot to others, if it is held.
    pub(crate) fn release(&mut self) {
        self.permit = None;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;

    async fn gets_one(slot: &mut Slot) -> bool {
        tokio::time::timeout(Duration::from_millis(20), slot.hold()).await.is_ok_and(|held| held.is_ok())
    }

    #[tokio::test]
    async fn scans_leave_a_slot_to_interactive_tasks() {
        for (cores, reserved) in [(1, 1), (2, 1), (8, 2)] {
            let slots = Arc::new(Slots::new(cores));
            let mut scans: Vec<Slot> = (0..cores).map(|_| Slot::new(Arc::clone(&slots), Class::Scan)).collect();
            for scan in &mut scans {
                scan.hold().await.unwrap();
            }
            let mut waiting = Slot::new(Arc::clone(&slots), Class::Scan);
            assert!(!gets_one(&mut waiting).await, "{cores}");

            let mut interactive = Vec::new();
            for _ in 0..reserved {
                let mut slot = Slot::new(Arc::clone(&slots), Class::Interactive);
                assert!(gets_one(&mut slot).await, "{cores}");
                interactive.push(slot);
            }
            let mut another = Slot::new(Arc::clone(&slots), Class::Interactive);
            assert!(!gets_one(&mut another).await, "{cores}");

            scans[0].release();
            assert!(gets_one(&mut another).await, "an interactive task takes a shared slot too");
            drop(another);
            assert!(gets_one(&mut waiting).await, "a dropped slot is free again");
        }
    }
}

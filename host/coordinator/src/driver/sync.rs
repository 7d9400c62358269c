//! The thread that waits for the disk.

use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hearth_store::{StoreError, Syncer};
use hearth_wire::Seq;
use tokio::sync::watch;

use crate::error::CoordinatorError;

/// The thread that waits for the disk, so that nobody else does.
///
/// A request while a sync runs starts another one after it, which covers everything written until
/// then: the busier the coordinator, the more records share a sync.
pub(super) struct SyncThread {
    /// Holds one request at the most: a second one would mean the same.
    requests: std_mpsc::SyncSender<()>,
    durable: watch::Receiver<Seq>,
    failure: Arc<Mutex<Option<StoreError>>>,
}

impl SyncThread {
    pub(super) fn start(syncer: Syncer, durable: Seq) -> Result<Self, CoordinatorError> {
        let (requests, inbox) = std_mpsc::sync_channel::<()>(1);
        let (sender, durable) = watch::channel(durable);
        let failure = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&failure);
        thread::Builder::new()
            .name("hearth-sync".to_owned())
            .spawn(move || {
                while inbox.recv().is_ok() {
                    match syncer.sync() {
                        Ok(seq) => {
                            sender.send_replace(seq);
                        }
                        Err(error) => {
                            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return;
                        }
                    }
                }
            })
            .map_err(CoordinatorError::Thread)?;
        Ok(Self {
            requests,
            durable,
            failure,
        })
    }

    /// Asks for a sync of everything written so far.
    pub(super) fn request(&self) {
        // A full channel holds a request that has not begun yet, and so covers this one.
        let _ = self.requests.try_send(());
    }

    /// Follows the newest durable record. Closed when a sync failed.
    pub(super) fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.clone()
    }

    /// Why the thread ended. A failed sync is never tried again: nobody knows what the disk holds.
    pub(super) fn failure(&self) -> CoordinatorError {
        let error = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match error {
            Some(error) => CoordinatorError::Store(error),
            None => CoordinatorError::Ended("sync thread"),
        }
    }
}

//! The archive: where files of the journal go that both snapshots cover.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_store::Archiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::snapshots::PERIODS_AFTER_FAILURE;
use crate::error::CoordinatorError;
use crate::gently::{Manner, gently};
use crate::shell::Shell;

/// Moves what both snapshots cover, a file at a time. Runs until shutdown. Beside the snapshots, because
/// the archive's disk may be slow.
pub(super) async fn keep(shell: Arc<Shell>, archiver: Archiver) {
    let mut shutdown = shell.shutdown.clone();
    let period = shell.config.snapshot_every.max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let archiver = Arc::new(Mutex::new(archiver));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.requested() => return,
        }
        loop {
            let (keeper, archiver) = (Arc::clone(&shell), Arc::clone(&archiver));
            let moved = tokio::task::spawn_blocking(move || move_one(&keeper, &archiver)).await;
            match moved {
                Ok(Ok(true)) if !shutdown.is_requested() => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "old files of the journal stay where they are");
                    ticks.reset_after(period * PERIODS_AFTER_FAILURE);
                    break;
                }
                _ => break,
            }
        }
    }
}

/// Whether there was one to move.
fn move_one(shell: &Shell, archiver: &Mutex<Archiver>) -> Result<bool, CoordinatorError> {
    let Some((older, _)) = shell.snapshots.list()?.get(1).copied() else {
        return Ok(false);
    };
    gently("archive", Manner::Behind, || {
        let mut archiver = archiver.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(archiver.archive_next(older, || shell.shutdown.is_requested())?)
    })
}

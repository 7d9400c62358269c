//! Snapshots: written beside the work, so that a start reads little of the journal.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::Config;
use hearth_store::{JournalConfig, Snapshot, Snapshots, Start, StoreError};
use hearth_wire::RealmId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::folded::Folded;
use super::open::core_config;
use crate::error::CoordinatorError;
use crate::gently::{Manner, gently};
use crate::shell::Shell;

/// From so many segments on a snapshot gets its share of the processor, however busy the rest is: a start
/// would have to read them all.
const SEGMENTS_BEHIND: u64 = 4;

/// How long nothing is tried after a failure.
pub(super) const PERIODS_AFTER_FAILURE: u32 = 30;

/// The newest state that can be gone on from: of the newest snapshot that is usable, or of none.
pub(super) fn newest(
    snapshots: &Snapshots,
    realm: RealmId,
    config: &Config,
) -> Result<(Folded, Start), CoordinatorError> {
    for (seq, _) in snapshots.list()? {
        let snapshot = match snapshots.read(seq) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "a snapshot is left unread");
                continue;
            }
        };
        match Folded::decode(config.clone(), &snapshot.body) {
            Ok(folded) if folded.core.seq() == seq => return Ok((folded, snapshot.start)),
            Ok(_) => tracing::warn!(%seq, "a snapshot of another record is left unread"),
            Err(error) => tracing::warn!(%seq, %error, "a snapshot is left unread"),
        }
    }
    let start = JournalConfig::new(realm).start;
    Ok((Folded::new(config.clone()), start))
}

/// Writes a snapshot whenever a segment of the journal has ended. Runs until shutdown.
pub(super) async fn keep(shell: Arc<Shell>) {
    let mut shutdown = shell.shutdown.clone();
    // Not at the start itself: others want the machine then.
    let period = shell.config.snapshot_every.max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.requested() => return,
        }
        let keeper = Arc::clone(&shell);
        let saved = tokio::task::spawn_blocking(move || save_gently(&keeper)).await;
        if let Ok(Err(error)) = saved {
            // The journal holds everything all the same, and a later look tries again.
            tracing::error!(%error, "no snapshot can be written");
            ticks.reset_after(period * PERIODS_AFTER_FAILURE);
        }
    }
}

fn save_gently(shell: &Shell) -> Result<(), CoordinatorError> {
    match due(shell)? {
        Some(due) => gently("snapshot", due.manner, || save(shell, due.end)),
        None => Ok(()),
    }
}

/// A snapshot that is to be written.
struct Due {
    /// Where it stands.
    end: Start,
    manner: Manner,
}

/// The newest point at which a snapshot may stand, if the journal has grown behind the newest snapshot by
/// as much as that takes: so no more is written for snapshots than for the journal.
fn due(shell: &Shell) -> Result<Option<Due>, StoreError> {
    let (newest, len) = shell.snapshots.list()?.first().copied().unwrap_or_default();
    let ends = shell.journal.ends();
    let behind = ends.iter().filter(|end| end.seq > newest).count() as u64;
    let grown = behind.saturating_mul(shell.config.journal_segment_bytes) >= len;
    let end = ends.last().filter(|_| behind > 0 && grown);
    let manner = match behind {
        0..SEGMENTS_BEHIND => Manner::Idle,
        _ => Manner::Behind,
    };
    Ok(end.map(|end| Due { end: *end, manner }))
}

/// Makes a snapshot as a start would make its state: from the newest one and the journal behind it. So
/// the loop is not held up for a moment, nothing is kept twice in between, and each snapshot is gone on
/// from at least once while there is another. The price is a second state in memory while this lasts, and
/// folding every record a second time.
fn save(shell: &Shell, end: Start) -> Result<(), CoordinatorError> {
    let (mut folded, from) = newest(&shell.snapshots, shell.realm, &core_config(&shell.config))?;
    let stop = || shell.shutdown.is_requested();
    if !folded.replay_to(&shell.journal, end.seq, stop)? {
        return Ok(());
    }
    let body = folded.encode();
    drop(folded);
    if stop() {
        return Ok(());
    }
    let bytes = body.len();
    let snapshot = Snapshot { start: end, body };
    shell.snapshots.write(&snapshot, from.seq)?;
    tracing::info!(seq = %end.seq, bytes, "snapshot written");
    Ok(())
}

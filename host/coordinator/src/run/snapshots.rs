//! Snapshots: written beside the work, so that a start reads little of the journal.

use std::sync::Arc;

use hearth_core::Config;
use hearth_store::{JournalConfig, Snapshot, Snapshots, Start, StoreError};
use hearth_wire::RealmId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::folded::Folded;
use super::open::core_config;
use crate::error::CoordinatorError;
use crate::shell::Shell;

/// How much less of a processor a snapshot gets than the work.
const NICE: i32 = 10;

/// The newest state that can be gone on from: of the newest snapshot that is usable, or of none.
pub(super) fn newest(
    snapshots: &Snapshots,
    realm: RealmId,
    config: &Config,
) -> Result<(Folded, Start), CoordinatorError> {
    for seq in snapshots.list()? {
        let snapshot = match snapshots.read(seq) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "a snapshot is left unread");
                continue;
            }
        };
        match Folded::decode(config.clone(), &snapshot.body) {
            Ok(folded) => return Ok((folded, snapshot.start)),
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
    let period = shell.config.snapshot_every;
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
            // The journal holds everything all the same, and the next look tries again.
            tracing::error!(%error, "no snapshot can be written");
        }
    }
}

/// On a thread of its own, since its niceness stays with it.
fn save_gently(shell: &Shell) -> Result<(), CoordinatorError> {
    let Some(end) = due(shell)? else {
        return Ok(());
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("hearth-snapshot".to_owned());
        let work = thread.spawn_scoped(scope, || {
            let own = rustix::thread::gettid();
            // Where it is refused, the snapshot is as quick as the rest.
            let _ = rustix::process::setpriority_process(Some(own), NICE);
            save(shell, end)
        });
        let ended = work.map_err(CoordinatorError::Thread)?.join();
        ended.unwrap_or(Err(CoordinatorError::Ended("snapshot")))
    })
}

/// The newest point at which a snapshot may stand, if there is none that far.
fn due(shell: &Shell) -> Result<Option<Start>, StoreError> {
    let newest = shell.snapshots.list()?.first().copied().unwrap_or_default();
    let end = shell.journal.ends().last().copied();
    Ok(end.filter(|end| end.seq > newest))
}

/// Makes a snapshot as a start would make its state: from the newest one and the journal behind it. So
/// the loop is not held up for a moment, nothing is kept twice in between, and each snapshot has been
/// gone on from before the journal is cut behind it. The price is a second state in memory while this
/// lasts, and folding every record a second time.
fn save(shell: &Shell, end: Start) -> Result<(), CoordinatorError> {
    let (mut folded, _) = newest(&shell.snapshots, shell.realm, &core_config(&shell.config))?;
    folded.replay_to(&shell.journal, end.seq)?;
    let body = folded.encode();
    let shown = folded.oldest_shown();
    drop(folded);
    shell.snapshots.write(&Snapshot { start: end, body })?;
    let moved = shell.journal.archive(shell.snapshots.covered()?, shown)?;
    let archive = shell.config.journal_archive_bytes_max;
    let removed = shell.journal.trim_archive(archive)?;
    tracing::info!(seq = %end.seq, moved, removed, "snapshot written, segments archived and removed");
    Ok(())
}

//! Removes files that nobody needs any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hearth_store::BlobStore;
use hearth_wire::Digest;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::clock::{unix_millis, uptime_millis};
use crate::error::CoordinatorError;
use crate::gently::{Manner, gently};
use crate::shell::Shell;

/// A sweep looks at every file, so it comes with one look in so many: once an hour.
const LOOKS_PER_SWEEP: u32 = 60;

/// The first sweep comes with this look: not at the start itself, when others want the disk.
const FIRST_SWEEP: u32 = 10;

/// A checkpoint that was let go may just have been granted to somebody who begins to fetch it: longer
/// than a node takes from its lease to the first byte. A busy task leaves one behind every minute, so
/// these cannot wait as long as the rest.
const CHECKPOINT_UNCLAIMED: Duration = Duration::from_secs(10 * 60);

/// States of checkpoints that wait until they are old enough. The sweep finds more.
const WAITING_MAX: usize = 65_536;

/// Removes what nobody needs any more, by two ways.
///
/// Who needs what is folded from durable records, so a file goes only after the record that lets it go is
/// durable, and a crash in between leaves files, never a need without its file. The *sweep* looks at every
/// file from time to time and removes those that nobody needs and nobody has stored, looked for or named
/// for as long as the owner's configuration says: whoever uploads for a submission that is still to come
/// has that long. States of *checkpoints* are followed one by one, since they come in numbers.
///
/// The age of a file is told by the wall clock. When that leaps ahead, files look older than they are by
/// as much, so they have to look so much older before they go.
struct Collector {
    /// States of checkpoints that were let go.
    waiting: VecDeque<Digest>,
    looks: u32,
    /// Wall clock and uptime at the start.
    began: (u64, u64),
}

/// Runs until shutdown.
pub(super) async fn keep(shell: Arc<Shell>) {
    let mut shutdown = shell.shutdown.clone();
    let period = shell.config.collect_every.max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collector = Some(Collector {
        waiting: VecDeque::new(),
        looks: 0,
        began: (unix_millis(), uptime_millis()),
    });
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.requested() => return,
        }
        let keeper = Arc::clone(&shell);
        let Some(mut own) = collector.take() else {
            return;
        };
        let looked = tokio::task::spawn_blocking(move || {
            // Whoever uploads waits for a look that removes something.
            if let Err(error) = gently("collect", Manner::Behind, || own.look(&keeper)) {
                // Nothing is lost by it but room, and a later look tries again.
                tracing::warn!(%error, "files that nobody needs cannot be removed");
            }
            own
        });
        collector = looked.await.ok();
    }
}

impl Collector {
    fn look(&mut self, shell: &Shell) -> Result<(), CoordinatorError> {
        self.looks = self.looks.wrapping_add(1);
        let ahead = self.clock_ahead();
        self.collect_checkpoints(shell, CHECKPOINT_UNCLAIMED + ahead)?;
        if self.looks % LOOKS_PER_SWEEP == FIRST_SWEEP % LOOKS_PER_SWEEP {
            sweep(shell, shell.config.unused_files_kept.saturating_add(ahead))?;
        }
        Ok(())
    }

    /// How far the wall clock has leapt ahead since the start.
    fn clock_ahead(&self) -> Duration {
        let (wall, uptime) = self.began;
        let expected = wall.saturating_add(uptime_millis().saturating_sub(uptime));
        Duration::from_millis(unix_millis().saturating_sub(expected))
    }

    fn collect_checkpoints(
        &mut self,
        shell: &Shell,
        unclaimed: Duration,
    ) -> Result<(), CoordinatorError> {
        let room = WAITING_MAX.saturating_sub(self.waiting.len());
        let let_go = shell.views.take_let_go();
        self.waiting.extend(let_go.into_iter().take(room));
        // The first are the oldest, nearly; those that are not old enough wait for the next look.
        for _ in 0..self.waiting.len() {
            if shell.shutdown.is_requested() {
                return Ok(());
            }
            let Some(digest) = self.waiting.pop_front() else {
                return Ok(());
            };
            let gone = remove(shell, &shell.blobs, &digest, unclaimed, || {
                shell.views.read().references.needs_blob(&digest)
            })?;
            let still_there = !gone && shell.blobs.len_of(&digest)?.is_some();
            if still_there && !shell.views.read().references.needs_blob(&digest) {
                self.waiting.push_back(digest);
            }
        }
        Ok(())
    }
}

/// Looks at every file once.
fn sweep(shell: &Shell, unclaimed: Duration) -> Result<(), CoordinatorError> {
    let needs_blob = |digest: &Digest| shell.views.read().references.needs_blob(digest);
    let mut removed = sweep_store(shell, &shell.blobs, unclaimed, needs_blob, |_| {})?;
    let needs_set = |root: &Digest| shell.views.read().references.needs_set(root);
    let forget = |root: &Digest| shell.inputs.forget(root);
    removed += sweep_store(shell, shell.inputs.store(), unclaimed, needs_set, forget)?;
    shell.metrics.sweeps.inc();
    if removed > 0 {
        tracing::info!(files = removed, "files that nobody needed were removed");
    }
    Ok(())
}

fn sweep_store(
    shell: &Shell,
    store: &BlobStore,
    unclaimed: Duration,
    needs: impl Fn(&Digest) -> bool,
    forget: impl Fn(&Digest),
) -> Result<u64, CoordinatorError> {
    let mut removed = 0;
    let mut failed = None;
    store.for_each(|blob| {
        let digest = blob.digest;
        if failed.is_some() || shell.shutdown.is_requested() || needs(&digest) {
            return;
        }
        match remove(shell, store, &digest, unclaimed, || needs(&digest)) {
            Ok(true) => {
                forget(&digest);
                removed += 1;
            }
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(removed), Err)
}

/// Removes a file unless it is needed or was claimed lately; whether it went.
fn remove(
    shell: &Shell,
    store: &BlobStore,
    digest: &Digest,
    unclaimed: Duration,
    needed: impl FnOnce() -> bool,
) -> Result<bool, CoordinatorError> {
    let Some(bytes) = store.give_up(digest, unclaimed, needed)? else {
        return Ok(false);
    };
    shell.metrics.files_removed.inc();
    shell.metrics.file_bytes_removed.add(bytes);
    Ok(true)
}

//! What has to be looked at from time to time.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::Event;
use hearth_net::tls::Identity;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::{unix_millis, unix_now, uptime_millis};
use crate::fact::ShellFact;
use crate::shell::Shell;
use crate::trust::{self, Scope};

/// Whether the owner has signed a new policy beside us.
const POLICY_EVERY: Duration = Duration::from_secs(2);
/// Certificates, lists with an end, unfinished uploads, and the wall clock.
const SLOW_EVERY: Duration = Duration::from_secs(60 * 60);
/// A step of the wall clock that is worth a new anchor.
const CLOCK_STEP_MILLIS: u64 = 2_000;

/// Runs until shutdown.
pub(super) async fn keep(shell: Arc<Shell>, identity: Identity) {
    let mut shutdown = shell.shutdown.clone();
    let mut ticks = interval(POLICY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slow = Instant::now() + SLOW_EVERY;
    let mut walls = Walls::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.requested() => return,
        }
        look_at_policy(&shell).await;
        shell.look_at_unreadable().await;
        let looker = Arc::clone(&shell);
        let _ = tokio::task::spawn_blocking(move || {
            looker.room.look();
            looker.look_at_damaged();
        })
        .await;
        if walls.stepped() {
            anchor(&shell).await;
        }
        if Instant::now() >= slow {
            slow = Instant::now() + SLOW_EVERY;
            let (keeper, identity) = (Arc::clone(&shell), identity.clone());
            let _ = tokio::task::spawn_blocking(move || look_slowly(&keeper, &identity)).await;
            look_at_policy(&shell).await;
            trust::warn_of_end(&shell.trusted().policy, unix_now());
            shell.judge(Scope::OpenJobs).await;
        }
    }
}

/// The owner may add an author or revoke a node while we run: the files in the realm's directory
/// are the truth. What waits for trust is looked at as often, because time alone may bring it.
async fn look_at_policy(shell: &Arc<Shell>) {
    let reader = Arc::clone(shell);
    // Reading files may block.
    let found = tokio::task::spawn_blocking(move || reader.dir.policy_state()).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the policy cannot be read; the last one stays");
            return;
        }
        Err(_) => return,
    };
    if shell.trusted().is_newer(&found) {
        tracing::info!("the realm's policy has changed");
        shell.replace_policy(found).await;
    } else if !shell.held.is_empty() {
        shell.judge(Scope::Held).await;
    }
}

fn look_slowly(shell: &Shell, identity: &Identity) {
    if let Err(error) = shell.dir.refresh(unix_now()) {
        tracing::error!(%error, "the list of revocations cannot be renewed");
    }
    match shell.dir.coordinator_tls(unix_now()) {
        Ok(own) => {
            if let Err(error) = identity.replace(own.chain, own.key) {
                tracing::error!(%error, "the renewed certificate cannot be used");
            }
        }
        Err(error) => tracing::error!(%error, "our certificate cannot be renewed"),
    }
    for store in [&shell.blobs, shell.inputs.store()] {
        match store.expire_partials() {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "unfinished uploads expired"),
            Err(error) => tracing::warn!(%error, "unfinished uploads cannot be removed"),
        }
    }
}

/// Notices steps of the wall clock. Nothing but dates depends on it.
struct Walls {
    wall: u64,
    uptime: u64,
}

impl Walls {
    fn new() -> Self {
        Self {
            wall: unix_millis(),
            uptime: uptime_millis(),
        }
    }

    fn stepped(&mut self) -> bool {
        let now = Self::new();
        let expected = self.wall + now.uptime.saturating_sub(self.uptime);
        let stepped = expected.abs_diff(now.wall) > CLOCK_STEP_MILLIS;
        *self = now;
        stepped
    }
}

async fn anchor(shell: &Shell) {
    let unix_millis = unix_millis();
    let at = shell.clock.now();
    tracing::warn!("the wall clock was set");
    let bytes = ShellFact::Clock { at, unix_millis }.encode();
    // When the driver has ended, so does everything.
    let _ = shell
        .driver
        .tell(Event::Shell {
            request: None,
            bytes,
        })
        .await;
}

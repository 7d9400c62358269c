//! Leaving in order: finish what runs, give back what waits, tell everything, say goodbye.

use std::time::Duration;

use hearth_net::socket::CloseReason;
use hearth_wire::message::NodeMessage;
use tokio::time::Instant;

use super::{Link, Node};

/// From the end of the work until the node leaves with unsettled reports: they are on the disk.
const SETTLE_GRACE: Duration = Duration::from_secs(2);
/// From the goodbye until the process ends without an answer to it.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// The node takes no more work.
pub(super) struct Drain {
    /// When the last attempt had ended.
    idle_since: Option<Instant>,
}

impl Node {
    /// Takes no more work and gives back what does not run yet.
    pub(super) fn start_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain { idle_since: None });
        self.tell_capacity();
        let mut waiting = self.pool.waiting();
        let gathering = self.attempts.iter().filter(|(_, held)| !held.is_running());
        waiting.extend(gathering.map(|(attempt, _)| *attempt));
        tracing::info!(
            given_back = waiting.len(),
            to_finish = self.attempts.len().saturating_sub(waiting.len()),
            "draining"
        );
        self.on_cancel(&waiting, true);
    }

    /// The grace is over: what still runs is given back too.
    pub(super) fn give_everything_back(&mut self) {
        let all: Vec<_> = self.attempts.keys().copied().collect();
        if !all.is_empty() {
            tracing::warn!(attempts = all.len(), "the grace is over; given back");
        }
        for attempt in &all {
            if let Some(held) = self.attempts.get_mut(attempt) {
                held.forget_pool();
            }
        }
        self.pool.cancel(&all);
        self.on_cancel(&all, true);
        self.flush();
    }

    /// Whether there is nothing left to do, or nobody left to do it for.
    pub(super) fn is_finished(&mut self) -> bool {
        if matches!(self.link, Link::Gone) {
            return true;
        }
        let Some(drain) = &mut self.drain else {
            return false;
        };
        if !self.attempts.is_empty() {
            return false;
        }
        let since = *drain.idle_since.get_or_insert_with(Instant::now);
        self.reports.is_empty() || self.link.up().is_none() || since.elapsed() >= SETTLE_GRACE
    }

    /// Says goodbye, if anybody is there to hear it.
    pub(super) fn leave(&mut self) {
        if let Some(link) = self.link.up() {
            let _closed = link.try_send(&NodeMessage::Goodbye);
            link.close(CloseReason::Normal, "goodbye");
        }
        self.tell_status();
    }
}

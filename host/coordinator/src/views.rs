//! What clients see: a fold of the durable journal, off the driver's loop.

mod job;
mod news;
mod node;
mod references;
mod show;
mod state;
mod task;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hearth_wire::api::JobEvent;
use hearth_wire::{Digest, Seq};
use tokio::sync::{broadcast, mpsc, watch};

use crate::driver::Durable;
use crate::tables::Tables;

pub(crate) use job::{JobView, Tasks, count};
pub(crate) use news::{Happening, News};
pub(crate) use node::NodeView;
pub(crate) use show::{
    OutcomeError, Outcomes, RECORD_BYTES_MAX, base64, reports, result_of_report,
};
pub(crate) use state::State;
pub(crate) use task::{Stage, TaskView};

/// News that wait for the slowest listener; one that falls further behind is told to read again.
const NEWS_MAX: usize = 8_192;

/// The longest wait for a sequence number.
const MIN_SEQ_WAIT: Duration = Duration::from_secs(5);

/// What clients see. Readers take a short shared lock; the follower takes the exclusive one for each
/// batch of records, so that a reader sees whole batches only.
#[derive(Debug)]
pub(crate) struct Views {
    state: RwLock<State>,
    /// Where the tasks of ended jobs go.
    tables: Arc<Tables>,
    seq: watch::Sender<Seq>,
    news: broadcast::Sender<News>,
}

/// A `min_seq` that is not reached in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {wanted} is not there yet, the newest is {newest}")]
pub(crate) struct NotYet {
    pub(crate) wanted: Seq,
    pub(crate) newest: Seq,
}

impl Views {
    /// Goes on from a state that was folded while the journal was opened.
    pub(crate) fn new(state: State, tables: Arc<Tables>) -> Self {
        let (seq, _) = watch::channel(state.seq);
        let (news, _) = broadcast::channel(NEWS_MAX);
        Self {
            state: RwLock::new(state),
            tables,
            seq,
            news,
        }
    }

    /// What is shown now. Not to be held over an `await`.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The states of checkpoints that were let go since this was asked last.
    pub(crate) fn take_let_go(&self) -> Vec<Digest> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.references.take_let_go()
    }

    /// Waits until record `wanted` is shown.
    pub(crate) async fn wait_for(&self, wanted: Seq) -> Result<(), NotYet> {
        let mut seq = self.seq.subscribe();
        let reached = seq.wait_for(|newest| *newest >= wanted);
        match tokio::time::timeout(MIN_SEQ_WAIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotYet {
                wanted,
                newest: *self.seq.borrow(),
            }),
        }
    }

    /// The newest record that is shown.
    pub(crate) fn seq(&self) -> Seq {
        *self.seq.borrow()
    }

    /// News from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Whether anybody listens.
    pub(crate) fn has_listeners(&self) -> bool {
        self.news.receiver_count() > 0
    }

    /// Tells listeners something that is not journaled.
    pub(crate) fn tell(&self, event: JobEvent) {
        // Nobody listening is no error.
        let _ = self.news.send(News::Live(Arc::new(event)));
    }

    /// Folds durable records until there are no more senders.
    pub(crate) async fn follow(self: Arc<Self>, mut durable: mpsc::Receiver<Durable>) {
        while let Some(batch) = durable.recv().await {
            let mut news = self.has_listeners().then(Vec::new);
            let seq = {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                for (entry, record) in &batch.records {
                    state.apply(*entry, record, &mut news);
                }
                let holds = batch.holds.iter();
                holds.for_each(|effect| state.references.apply(effect));
                // Before anybody can see that they are away.
                let changes = state.take_changes();
                self.tables.hand_over(changes, state.seq);
                state.seq
            };
            self.seq.send_replace(seq);
            for happening in news.into_iter().flatten() {
                let _ = self.news.send(News::Happening(happening));
            }
        }
    }
}

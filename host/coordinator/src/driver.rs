//! The driver: the one owner of core and of the journal's end.

mod outbox;
mod sync;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_core::{Answer, Coordinator, Effect, Event, RequestId, RequestRefusal};
use hearth_store::{Entry, Journal};
use hearth_wire::record::Record;
use hearth_wire::{Seq, codec, limits};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::error::CoordinatorError;
use crate::metrics::Metrics;
use crate::room::{Room, Roomy};

use outbox::Outboxes;
pub(crate) use outbox::{Command, SessionOutbox};
use sync::SyncThread;

/// Batches that may be written and not yet synced. More would let acks fall behind by more than a
/// few syncs, so that pressure must reach the senders instead.
const UNSYNCED_BATCHES_MAX: usize = 8;

/// Batches that may wait for the follower.
pub(crate) const FOLLOWER_BATCHES_MAX: usize = 64;

/// The longest sleep without a timer, so that a lost wake-up could cost no more.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// Durable records on their way to the follower.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    pub(crate) records: Vec<(Entry, Arc<Record>)>,
    /// What core said with them of the blobs that are kept.
    pub(crate) holds: Vec<Effect>,
}

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Action {
    /// Something happened; nobody waits for an answer.
    Event(Event),
    /// Somebody waits for the answer of this request.
    Request(Event, RequestId, Reply),
    /// A node said hello; what core wants to tell it goes to this outbox from now on.
    Join(Event, SessionOutbox),
    /// Nothing more comes: write what there is and end.
    Stop(oneshot::Sender<()>),
}

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, RequestRefusal>>;

/// The driver has ended; so does the process.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Stopped;

/// Talks to the driver.
#[derive(Debug, Clone)]
pub(crate) struct DriverHandle {
    actions: mpsc::Sender<Action>,
    requests: Arc<AtomicU64>,
}

impl DriverHandle {
    /// Waits while the driver has more to do than it can.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.send(Action::Event(event)).await
    }

    /// Gives the answer once it is durable.
    pub(crate) async fn ask(
        &self,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Result<Answer, RequestRefusal>, Stopped> {
        let request = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.send(Action::Request(event(request), request, reply))
            .await?;
        answer.await.map_err(|_| Stopped)
    }

    pub(crate) async fn send(&self, action: Action) -> Result<(), Stopped> {
        self.actions.send(action).await.map_err(|_| Stopped)
    }

    /// Actions that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.actions.max_capacity() - self.actions.capacity()
    }
}

/// A channel to a driver that is still to be made.
pub(crate) fn channel() -> (DriverHandle, mpsc::Receiver<Action>) {
    let (actions, receiver) = mpsc::channel(limits::DRIVER_QUEUE_MAX);
    let handle = DriverHandle {
        actions,
        requests: Arc::new(AtomicU64::new(1)),
    };
    (handle, receiver)
}

/// The one owner of core and of the journal's end.
///
/// Everything that can happen arrives as an [`Action`] in one bounded channel. The driver takes as
/// many as are there (at most [`limits::DRIVER_BATCH_MAX`]), lets core decide on each, writes the
/// records of all in one go and asks the sync thread for one `fdatasync`. While that runs, the next
/// batch is decided and written: group commit, pipelined. Effects wait in line behind the sync of
/// the newest record that core had emitted by then, and leave in order.
///
/// Why one owner: decisions need the whole state, and a lock around it would be taken by everybody
/// for everything. What it costs: core uses one core of the machine at most; all work that does not
/// need state (signatures, content ids, inputs, JSON) is therefore done by those who send actions.
///
/// It lives on a thread of its own, since writing to a file may block.
pub(crate) struct Driver {
    core: Coordinator,
    clock: Clock,
    journal: Journal,
    sync: SyncThread,
    actions: mpsc::Receiver<Action>,
    outboxes: Outboxes,
    replies: HashMap<RequestId, Reply>,
    follower: mpsc::Sender<Durable>,
    /// Batches that are written, the oldest first.
    unsynced: VecDeque<Batch>,
    metrics: Arc<Metrics>,
    room: Arc<Room>,
    stop: Option<oneshot::Sender<()>>,
}

/// What waits for one sync.
#[derive(Default)]
struct Batch {
    /// The newest record at its end.
    seq: Seq,
    durable: Durable,
    effects: Vec<Effect>,
}

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) core: Coordinator,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) actions: mpsc::Receiver<Action>,
    pub(crate) follower: mpsc::Sender<Durable>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) room: Arc<Room>,
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Result<Self, CoordinatorError> {
        let sync = SyncThread::start(parts.journal.syncer(), parts.journal.durable())?;
        Ok(Self {
            core: parts.core,
            clock: parts.clock,
            journal: parts.journal,
            sync,
            actions: parts.actions,
            outboxes: Outboxes::default(),
            replies: HashMap::new(),
            follower: parts.follower,
            unsynced: VecDeque::new(),
            metrics: parts.metrics,
            room: parts.room,
            stop: None,
        })
    }

    /// Runs until told to stop, or until the journal fails.
    pub(crate) async fn run(mut self) -> Result<(), CoordinatorError> {
        let mut taken = Vec::with_capacity(limits::DRIVER_BATCH_MAX);
        let mut durable = self.sync.durable();
        loop {
            let room = self.unsynced.len() < UNSYNCED_BATCHES_MAX;
            if self.stop.is_some() && self.unsynced.is_empty() {
                return self.finish();
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                changed = durable.changed() => {
                    if changed.is_err() {
                        return Err(self.sync.failure());
                    }
                    let seq = *durable.borrow_and_update();
                    self.release_through(seq).await;
                }
                count = self.actions.recv_many(&mut taken, limits::DRIVER_BATCH_MAX),
                    if room && self.stop.is_none() =>
                {
                    if count == 0 {
                        return self.finish();
                    }
                    self.apply(taken.drain(..)).await?;
                }
                () = tokio::time::sleep_until(wake), if room && self.stop.is_none() => {
                    self.apply([Action::Event(Event::Tick)]).await?;
                }
            }
        }
    }

    /// When core wants to hear of the time.
    fn wake(&self) -> tokio::time::Instant {
        let soon = tokio::time::Instant::now() + SLEEP_MAX;
        match self.core.next_timeout() {
            Some(at) => soon.min(self.clock.instant(at).into()),
            None => soon,
        }
    }

    /// Lets core decide on a batch, writes its records and asks for a sync.
    async fn apply(
        &mut self,
        actions: impl IntoIterator<Item = Action>,
    ) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        let mut batch = Batch::default();
        let mut records = Vec::new();
        for action in actions {
            let event = match action {
                Action::Event(event) => event,
                Action::Request(event, request, reply) => {
                    self.replies.insert(request, reply);
                    event
                }
                Action::Join(event, outbox) => {
                    self.outboxes.add(outbox);
                    event
                }
                Action::Stop(done) => {
                    self.stop = Some(done);
                    continue;
                }
            };
            self.metrics.events.inc();
            let step = self.core.handle(now, event);
            records.extend(step.records);
            for effect in step.effects {
                if effect.may_leave_at_once() {
                    self.release(effect, Seq(0));
                } else if effect.keeps_blobs() {
                    batch.durable.holds.push(effect);
                } else {
                    batch.effects.push(effect);
                }
            }
        }
        let encoded: Vec<_> = records.iter().map(codec::encode).collect();
        let entries = self.roomy().write(|journal| journal.append(&encoded))?;
        batch.seq = self.core.seq();
        batch.durable.records = entries
            .into_iter()
            .zip(records.into_iter().map(Arc::new))
            .collect();
        let count = batch.durable.records.len();
        if count == 0 && batch.effects.is_empty() {
            return Ok(());
        }
        self.metrics.records.add(count as u64);
        if count > 0 {
            self.roomy().write(Journal::flush)?;
            self.metrics.commits.inc();
            self.sync.request();
        }
        self.unsynced.push_back(batch);
        // Without records of its own a batch may have nothing to wait for.
        let durable = *self.sync.durable().borrow();
        self.release_through(durable).await;
        Ok(())
    }

    /// Lets go whatever waited for records up to `seq`.
    async fn release_through(&mut self, seq: Seq) {
        while let Some(batch) = self.unsynced.pop_front_if(|batch| batch.seq <= seq) {
            // Effects first: somebody waits for them. Views follow, and `min_seq` bridges the gap.
            batch
                .effects
                .into_iter()
                .for_each(|effect| self.release(effect, batch.seq));
            if !batch.durable.records.is_empty() {
                // A follower that has ended is noticed by `run`, which ends the process.
                let _ = self.follower.send(batch.durable).await;
            }
        }
    }

    /// Does one effect. Those that views are made of are folded from records instead.
    fn release(&mut self, effect: Effect, seq: Seq) {
        match effect {
            Effect::Done { request, answer } => self.reply(request, Ok(answer)),
            Effect::Refused { request, refusal } => self.reply(request, Err(refusal)),
            Effect::Welcome {
                session,
                epoch,
                unwanted,
            } => self
                .outboxes
                .send(session, Command::Welcome { epoch, unwanted }),
            Effect::Grant {
                session, leases, ..
            } => self.outboxes.send(session, Command::Grant { leases, seq }),
            Effect::Cancel { session, attempts } => {
                self.outboxes.send(session, Command::Cancel(attempts));
            }
            Effect::Pause { session, attempts } => {
                self.outboxes.send(session, Command::Pause(attempts));
            }
            Effect::Resume { session, attempts } => {
                self.outboxes.send(session, Command::Resume(attempts));
            }
            Effect::Settled { session, attempts } => {
                self.outboxes.send(session, Command::Settled(attempts));
            }
            Effect::Drain { session } => self.outboxes.send(session, Command::Drain),
            Effect::CloseSession { session, reason } => self.outboxes.close(session, reason),
            Effect::JobChanged { .. }
            | Effect::ResultAccepted { .. }
            | Effect::ResultAmended { .. }
            | Effect::ModeChanged { .. }
            | Effect::BlobHeld { .. }
            | Effect::BlobsReleased { .. } => {}
        }
    }

    fn roomy(&mut self) -> Roomy<'_> {
        Roomy {
            journal: &mut self.journal,
            room: &self.room,
        }
    }

    fn reply(&mut self, request: RequestId, answer: Result<Answer, RequestRefusal>) {
        if let Some(reply) = self.replies.remove(&request) {
            // Whoever asked may have gone away; the answer stands all the same.
            let _ = reply.send(answer);
        }
    }

    fn finish(mut self) -> Result<(), CoordinatorError> {
        self.roomy().write(Journal::commit)?;
        if let Some(done) = self.stop.take() {
            let _ = done.send(());
        }
        Ok(())
    }
}

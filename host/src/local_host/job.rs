//! Jobs of a local host: feed inputs as slots are free, give results as they come.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_node::pool::{
    ComponentSource, EventSink, Pool, PoolError, RunEvent, RunEvents, RunSpec, events,
};
use hearth_wire::message::LogLevel;
use hearth_wire::runner::{Finished, RunOutcome};
use hearth_wire::{
    AttemptId, Class, Digest, EngineRange, Inconclusive, Manifest, Priority, TaskLimits, TaskType,
    UnixSeconds, World, content_id, limits,
};

use super::{Component, LocalHost, LocalHostError};

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which task: the position of its input.
    pub index: usize,
    /// Units done, in the guest's measure.
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
}

/// A line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which task: the position of its input.
    pub index: usize,
    /// How important.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// How one task of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    /// The position of its input.
    pub index: usize,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Fuel used.
    pub fuel_used: u64,
    /// Time in the sandbox.
    pub run_time: Duration,
}

impl TaskResult {
    /// What the guest returned; `None` if it ended in any other way.
    pub fn output(&self) -> Option<&[u8]> {
        match &self.outcome {
            RunOutcome::Returned { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// The digest by which outcomes are compared between machines; `None` if inconclusive.
    pub fn digest(&self) -> Option<Digest> {
        self.outcome.digest()
    }
}

type OnProgress<'host> = Box<dyn FnMut(Progress) + 'host>;
type OnLog<'host> = Box<dyn FnMut(LogLine) + 'host>;

/// A job that is being described; [`JobBuilder::run`] starts it.
pub struct JobBuilder<'host> {
    host: &'host LocalHost,
    component: Component,
    inputs: Vec<Bytes>,
    media_type: String,
    limits: TaskLimits,
    seed: Digest,
    deadline: Option<Duration>,
    ends_at: Option<Instant>,
    on_progress: Option<OnProgress<'host>>,
    on_log: Option<OnLog<'host>>,
}

impl fmt::Debug for JobBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobBuilder")
            .field("component", &self.component.digest())
            .finish_non_exhaustive()
    }
}

impl<'host> JobBuilder<'host> {
    pub(super) fn new(host: &'host LocalHost, component: Component) -> Self {
        Self {
            host,
            component,
            inputs: Vec::new(),
            media_type: "application/octet-stream".to_owned(),
            limits: TaskLimits::default(),
            seed: Digest::default(),
            deadline: None,
            ends_at: None,
            on_progress: None,
            on_log: None,
        }
    }

    /// Adds an input: one more task.
    pub fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.inputs.push(Bytes::copy_from_slice(input.as_ref()));
        self
    }

    /// Adds inputs: one task each.
    pub fn inputs(mut self, inputs: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        self.inputs.extend(
            inputs
                .into_iter()
                .map(|input| Bytes::copy_from_slice(input.as_ref())),
        );
        self
    }

    /// How the task should read the inputs; default `application/octet-stream`.
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = media_type.into();
        self
    }

    /// Limits of each task; they are part of its identity.
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Seed that the tasks see; default zero.
    pub fn seed(mut self, seed: Digest) -> Self {
        self.seed = seed;
        self
    }

    /// Wall-clock limit of each task, after which it ends inconclusive.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// When the job is over: tasks that have not ended by then end inconclusive.
    pub fn ends_at(mut self, ends_at: Instant) -> Self {
        self.ends_at = Some(ends_at);
        self
    }

    /// Is called with each task's progress while results are taken.
    pub fn on_progress(mut self, call: impl FnMut(Progress) + 'host) -> Self {
        self.on_progress = Some(Box::new(call));
        self
    }

    /// Is called with each line that a guest logs while results are taken.
    pub fn on_log(mut self, call: impl FnMut(LogLine) + 'host) -> Self {
        self.on_log = Some(Box::new(call));
        self
    }

    /// Starts the job.
    ///
    /// # Errors
    ///
    /// When an input breaks a limit or there is none.
    pub fn run(self) -> Result<Job<'host>, LocalHostError> {
        if self.inputs.is_empty() {
            return Err(LocalHostError::NoInputs);
        }
        let max = limits::INPUT_BYTES_MAX;
        if let Some((index, input)) = self
            .inputs
            .iter()
            .enumerate()
            .find(|(_, input)| input.len() as u64 > max)
        {
            return Err(LocalHostError::InputTooLarge {
                index,
                bytes: input.len(),
                max,
            });
        }
        let manifest = self.identity();
        let (sink, events) = events();
        Ok(Job {
            flow: self.host.next_attempt().0,
            manifest,
            sink,
            events,
            next: 0,
            held: Arc::default(),
            refused: VecDeque::new(),
            builder: self,
        })
    }

    /// The manifest that a release of this component with these limits would have: what content ids
    /// are made of.
    fn identity(&self) -> Manifest {
        Manifest {
            name: "local".to_owned(),
            version: "0".to_owned(),
            realm: None,
            component: hearth_wire::Blob {
                digest: self.component.digest(),
                len: self.component.bytes().len() as u64,
            },
            world: self.component.world(),
            imports: self.component.imports().to_vec(),
            limits: self.limits,
            class: match self.component.world() {
                World::TaskLive => Class::Tolerant,
                _ => Class::Exact,
            },
            task_type: TaskType::Processing,
            capabilities: Vec::new(),
            locations: Vec::new(),
            models: Vec::new(),
            engines: EngineRange {
                min: [0; 3],
                max: [u16::MAX; 3],
            },
            not_before: UnixSeconds(0),
            not_after: UnixSeconds(u64::MAX),
        }
    }
}

/// A running job: an iterator over the results in the order in which tasks end.
///
/// Inputs are fed as results are taken, so that a long job holds little. Dropping it cancels what
/// still runs.
#[derive(Debug)]
pub struct Job<'host> {
    builder: JobBuilder<'host>,
    /// Its number among those that share the pool.
    flow: u64,
    manifest: Manifest,
    sink: EventSink,
    events: RunEvents,
    next: usize,
    held: Arc<Mutex<Held>>,
    /// Tasks that the pool never took.
    refused: VecDeque<TaskResult>,
}

/// What the pool has of a job.
#[derive(Debug, Default)]
struct Held {
    running: BTreeMap<AttemptId, usize>,
    paused: bool,
    /// Nothing more is started.
    ending: bool,
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // Every change is one assignment, so what a panicking thread left is whole.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pauses, resumes and ends a job from anywhere, while another thread waits for its results.
#[derive(Debug, Clone)]
pub struct JobControl {
    pool: Pool,
    held: Arc<Mutex<Held>>,
}

impl JobControl {
    /// Parks what runs, with its memory, and starts nothing more. Deadlines go on.
    pub fn pause(&self) {
        let mut held = lock(&self.held);
        held.paused = true;
        let running: Vec<_> = held.running.keys().copied().collect();
        self.pool.pause(&running);
    }

    /// Goes on where the job was paused.
    pub fn resume(&self) {
        let mut held = lock(&self.held);
        held.paused = false;
        let running: Vec<_> = held.running.keys().copied().collect();
        self.pool.resume(&running);
    }

    /// Starts nothing more: the job is over when what was started has ended. Tasks that were not have no
    /// result.
    pub fn wind_down(&self) {
        lock(&self.held).ending = true;
    }
}

impl Job<'_> {
    /// Waits for all tasks and gives their results in the order of the inputs.
    pub fn wait(self) -> Vec<TaskResult> {
        let mut results: Vec<_> = self.collect();
        results.sort_by_key(|result| result.index);
        results
    }

    /// A handle that pauses and resumes the job.
    pub fn control(&self) -> JobControl {
        JobControl {
            pool: self.pool().clone(),
            held: Arc::clone(&self.held),
        }
    }

    /// Keeps every slot busy and one task more waiting for each.
    fn feed(&mut self) {
        let window = 2 * usize::from(self.builder.host.slots);
        while self.next < self.builder.inputs.len() {
            let attempt = self.builder.host.next_attempt();
            let run = self.spec(attempt, self.next);
            let mut held = lock(&self.held);
            if held.ending || held.running.len() >= window {
                return;
            }
            let refused = if held.paused {
                Some(PoolError::Full)
            } else {
                self.pool()
                    .submit(vec![run], &self.sink)
                    .pop()
                    .map(|(_, why)| why)
            };
            match refused {
                None => {
                    held.running.insert(attempt, self.next);
                }
                // Paused, or full of another job's tasks: come back when there is room.
                Some(PoolError::Full) if held.running.is_empty() => {
                    drop(held);
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                Some(PoolError::Full) => return,
                // It would say the same for ever: the task ends here, and the user hears why.
                Some(why) => {
                    drop(held);
                    self.refused.push_back(TaskResult {
                        index: self.next,
                        outcome: RunOutcome::Inconclusive(Inconclusive::HostFault(why.to_string())),
                        fuel_used: 0,
                        run_time: Duration::ZERO,
                    });
                    self.next += 1;
                    return;
                }
            }
            self.next += 1;
        }
    }

    fn spec(&self, attempt: AttemptId, index: usize) -> RunSpec {
        let job = &self.builder;
        let input = job.inputs[index].clone();
        let left = job
            .ends_at
            .map(|ends_at| ends_at.saturating_duration_since(Instant::now()));
        RunSpec {
            attempt,
            flow: self.flow,
            group: Digest::default(),
            component: job.component.digest(),
            source: ComponentSource::Bytes(job.component.bytes().clone()),
            imports: job.component.imports().to_vec(),
            limits: job.limits,
            content: content_id(
                &self.manifest,
                &Digest::of(&input),
                &job.media_type,
                &job.seed,
            ),
            seed: job.seed,
            media_type: job.media_type.clone(),
            input,
            resume: None,
            priority: Priority::Medium,
            deadline: job.deadline.into_iter().chain(left).min(),
        }
    }

    fn result(&mut self, finished: Finished) -> Option<TaskResult> {
        let index = lock(&self.held).running.remove(&finished.attempt)?;
        Some(TaskResult {
            index,
            outcome: finished.outcome,
            fuel_used: finished.fuel_used,
            run_time: Duration::from_micros(finished.run_micros),
        })
    }

    fn index(&self, attempt: AttemptId) -> Option<usize> {
        lock(&self.held).running.get(&attempt).copied()
    }

    fn pool(&self) -> &Pool {
        &self.builder.host.pool
    }
}

impl Iterator for Job<'_> {
    type Item = TaskResult;

    fn next(&mut self) -> Option<TaskResult> {
        loop {
            self.feed();
            if let Some(refused) = self.refused.pop_front() {
                return Some(refused);
            }
            if lock(&self.held).running.is_empty() {
                return None;
            }
            let host = self.builder.host;
            match host.runtime.block_on(self.events.next())? {
                RunEvent::Finished(finished) => {
                    if let Some(result) = self.result(finished) {
                        return Some(result);
                    }
                }
                RunEvent::Progress {
                    attempt,
                    done,
                    total,
                } => {
                    let index = self.index(attempt);
                    if let (Some(index), Some(call)) = (index, &mut self.builder.on_progress) {
                        call(Progress { index, done, total });
                    }
                }
                RunEvent::Log {
                    attempt,
                    level,
                    text,
                } => {
                    let index = self.index(attempt);
                    if let (Some(index), Some(call)) = (index, &mut self.builder.on_log) {
                        call(LogLine { index, level, text });
                    }
                }
                // A job that lives no longer than this process resumes nothing.
                RunEvent::Checkpoint { .. } => {}
            }
        }
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let running: Vec<_> = lock(&self.held).running.keys().copied().collect();
        if !running.is_empty() {
            self.pool().cancel(&running);
        }
    }
}

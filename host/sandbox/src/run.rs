//! One attempt: what goes in, what comes out, and by which rules it ends.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use hearth_wire::message::LogLevel;
use hearth_wire::runner::{Resume, RunOutcome};
use hearth_wire::{Digest, Resource, TaskLimits};
use wasmtime::{AsContextMut, Store, Trap, UpdateDeadline};

use crate::gate::{Gate, Open};
use crate::host::{Host, Voice};
use crate::meter::settle;
use crate::outcome::{self, PayloadIn, Returned, Stage};
use crate::rules;
use crate::sandbox::{Program, Sandbox};

/// One attempt, complete.
///
/// How it ends follows from the component and these fields alone, apart from `Inconclusive`:
///
/// - *Fuel*. `limits.fuel` is set when the instance stands; making it has a fuel of its own that is the same
///   for all (an endless start function ends as `Exhausted(Fuel)`), so that start-up cost cannot
///   differ. Calls into the host, WASI's too, cost fuel by the bytes they carry. A guest must end with fuel left.
/// - *Memory*. A growth beyond the limit is refused as WebAssembly has it. If the guest then traps, the
///   attempt is `Exhausted(Memory)`; if it copes, it goes on.
/// - *Output*. A body beyond `limits.output_bytes`, or more in one call than any limit needs, is
///   `Exhausted(Output)`.
/// - *Stack*. Its depth differs between machines, so its end is `Inconclusive(StackOverflow)`.
/// - *Log*, *progress*, *checkpoints* never decide anything.
///
/// A *resumed* attempt is believed only when it returns an output with fuel to spare. In every other case
/// it is run again from its start before anything is told: the state may be poisoned, and restoring
/// one costs fuel that an attempt from the start does not pay. So resuming can only save time.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// Content id: the id that the guest sees.
    pub content: Digest,
    /// Seed that the guest sees.
    pub seed: Digest,
    /// Limits of the signed manifest.
    pub limits: TaskLimits,
    /// How to read the input.
    pub media_type: String,
    /// The input.
    pub input: Vec<u8>,
    /// State to go on from.
    pub resume: Option<Resume>,
}

/// What a guest tells while it runs. Called on the thread that runs the guest: must not block.
pub trait Hooks: Send + 'static {
    /// How far the guest is.
    fn progress(&mut self, done: u64, total: Option<u64>) {
        let _ = (done, total);
    }

    /// A line of log, within the limits.
    fn log(&mut self, level: LogLevel, text: &str) {
        let _ = (level, text);
    }

    /// Whether a state offered now would be kept; a state that nobody wants is not copied.
    fn wants_checkpoint(&mut self) -> bool {
        false
    }

    /// State that the guest offers, and the fuel that it had cost.
    fn checkpoint(&mut self, state: Vec<u8>, fuel_used: u64) {
        let _ = (state, fuel_used);
    }
}

/// Hooks that hear nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub outcome: RunOutcome,
    /// Fuel used, over all attempts resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds, without pauses.
    pub run_micros: u64,
    /// Log bytes dropped because they were beyond the limit.
    pub log_bytes_dropped: u64,
}

impl Sandbox {
    /// Runs one attempt to its end. Dropping the future ends the guest.
    ///
    /// Must be polled from an executor that keeps a core free for it: between two ticks of 5 ms a guest
    /// does not give way.
    pub async fn run(
        &self,
        program: &Program,
        request: RunRequest,
        gate: &Gate,
        hooks: impl Hooks,
    ) -> Ran {
        let began = Instant::now();
        let waited = gate.waited();
        let voice = Voice::new(Box::new(hooks), &request.limits);
        let _ticking = self.ticker().attempt();

        let mut request = request;
        let resume = request.resume.take();
        let resumed = resume.is_some();
        let (mut outcome, mut fuel_used) = self
            .attempt(program, &request, resume, gate, voice.clone())
            .await;
        if resumed && !believed(&outcome, fuel_used, &request.limits) {
            (outcome, fuel_used) = self
                .attempt(program, &request, None, gate, voice.clone())
                .await;
        }

        let time = began.elapsed().saturating_sub(gate.waited() - waited);
        Ran {
            outcome,
            fuel_used,
            run_micros: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            log_bytes_dropped: voice.lock().log_bytes_dropped,
        }
    }

    /// [`Sandbox::run`] on the calling thread.
    pub fn run_blocking(
        &self,
        program: &Program,
        request: RunRequest,
        gate: &Gate,
        hooks: impl Hooks,
    ) -> Ran {
        let mut running = pin!(self.run(program, request, gate, hooks));
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(ran) = running.as_mut().poll(&mut context) {
                return ran;
            }
            // A wake-up that came since the poll is kept by `unpark`, so none is missed.
            std::thread::park();
        }
    }

    /// One instance from its making to its end: the outcome and the fuel used.
    async fn attempt(
        &self,
        program: &Program,
        request: &RunRequest,
        resume: Option<Resume>,
        gate: &Gate,
        voice: Voice,
    ) -> (RunOutcome, u64) {
        let limits = request.limits;
        let fuel_before = resume.as_ref().map_or(0, |resume| resume.fuel_used);
        let host = Host::new(request.content, request.seed, limits, resume, voice);
        let mut store = Store::new(self.engine(), host);
        store.limiter(|host| &mut host.limiter);
        store.set_epoch_deadline(1);
        store.set_max_component_handles(rules::HANDLES_MAX);
        let carry = usize::try_from(rules::carry_bytes_max(&limits)).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(carry);
        let throttle = Arc::clone(self.throttled());
        let gates = gate.clone();
        store.epoch_deadline_callback(move |store| {
            if store.data().debt.is_ruined() {
                return Err(Trap::OutOfFuel.into());
            }
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(Open::new(gates.clone(), Arc::clone(&throttle))),
            ))
        });

        let payload = PayloadIn {
            media_type: request.media_type.clone(),
            body: request.input.clone(),
        };
        let ended = {
            let guest = pin!(run_guest(program, &mut store, payload));
            until_stopped(guest, gate).await
        };
        let outcome = match ended {
            Ended::Guest(outcome) => outcome,
            // The guest's stack is unwound by now; its store goes with the next line's end.
            Ended::Stopped(outcome) => outcome,
        };
        let fuel_used = match store.get_fuel() {
            _ if matches!(outcome, RunOutcome::Exhausted(Resource::Fuel)) => limits.fuel,
            Ok(left) if store.data().standing => limits.fuel.saturating_sub(left),
            _ => fuel_before,
        };
        (outcome, fuel_used)
    }
}

/// Wakes the thread that drives a guest.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

enum Ended {
    Guest(RunOutcome),
    Stopped(RunOutcome),
}

/// Instantiates, sets the fuel, calls `run`.
async fn run_guest(program: &Program, store: &mut Store<Host>, payload: PayloadIn) -> RunOutcome {
    let limits = store.data().limits;
    let started = async {
        store.set_fuel(rules::START_FUEL)?;
        let instance = program.pre().instantiate_async(&mut *store).await?;
        let run = instance.get_typed_func::<(PayloadIn,), Returned>(&mut *store, program.run())?;
        settle(&mut store.as_context_mut())?;
        store.set_fuel(limits.fuel)?;
        store.data().debt.begin(limits.fuel);
        store.data_mut().standing = true;
        Ok::<_, wasmtime::Error>(run)
    };
    let run = match started.await {
        Ok(run) => run,
        Err(error) => {
            let overdrawn = settle(&mut store.as_context_mut()).is_err();
            return outcome::of_error(&error, store.data(), Stage::Start, overdrawn);
        }
    };
    let ended = run.call_async(&mut *store, (payload,)).await;
    let overdrawn = settle(&mut store.as_context_mut()).is_err();
    match ended {
        // Fuel is looked at where code branches back or calls, so the last straight piece may overdraw it.
        // A guest that ends with nothing left has used too much: one rule for all ways to get there.
        Ok(_) if store.get_fuel().unwrap_or(0) == 0 => RunOutcome::Exhausted(Resource::Fuel),
        Ok(returned) => outcome::of_return(returned, store.data()),
        Err(error) => outcome::of_error(&error, store.data(), Stage::Run, overdrawn),
    }
}

/// Drives the guest until it ends or its gate says stop, whichever is first.
async fn until_stopped(
    mut guest: std::pin::Pin<&mut impl Future<Output = RunOutcome>>,
    gate: &Gate,
) -> Ended {
    poll_fn(|context| {
        if let Poll::Ready(stop) = gate.poll_stop(context) {
            return Poll::Ready(Ended::Stopped(outcome::of_stop(stop)));
        }
        guest.as_mut().poll(context).map(Ended::Guest)
    })
    .await
}

fn believed(outcome: &RunOutcome, fuel_used: u64, limits: &TaskLimits) -> bool {
    match outcome {
        RunOutcome::Returned { .. } => limits.fuel - fuel_used >= rules::restoring_fuel_max(limits),
        // Stopped from outside: there is nothing to find out.
        RunOutcome::Inconclusive(cause) => !matches!(
            cause,
            hearth_wire::Inconclusive::StackOverflow | hearth_wire::Inconclusive::HostFault(_)
        ),
        _ => false,
    }
}

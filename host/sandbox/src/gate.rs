//! The gate through which the owner of the machine pauses, throttles and cancels guests.
//!
//! Guests look at it at every tick of the engine's epoch, on their own stack: a guest that waits
//! keeps its stack and memory and costs no time. The gate only schedules; it never changes what a
//! conclusive outcome is.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Why an attempt was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    Deadline,
}

/// A handle on one attempt. Cheap to clone; may be used from any thread, before, during and after
/// the run.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    parked: bool,
    stop: Option<Stop>,
    /// Time that the guest waited, parked or throttled.
    waited: Duration,
    wakers: Vec<Waker>,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parks the attempt with its memory, within one tick of the engine's epoch.
    pub fn pause(&self) {
        self.lock().parked = true;
    }

    /// Goes on with a parked attempt.
    pub fn resume(&self) {
        let mut shared = self.lock();
        shared.parked = false;
        wake(&mut shared.wakers);
    }

    /// Ends the attempt with `Inconclusive(Cancelled)`, unless it has ended.
    pub fn cancel(&self) {
        self.stop(Stop::Cancelled);
    }

    /// Ends the attempt with `Inconclusive(Deadline)`, unless it has ended.
    pub fn expire(&self) {
        self.stop(Stop::Deadline);
    }

    /// Whether the attempt is parked.
    pub fn is_paused(&self) -> bool {
        self.lock().parked
    }

    /// Whether somebody asked the attempt to end.
    pub fn is_stopped(&self) -> bool {
        self.lock().stop.is_some()
    }

    fn stop(&self, stop: Stop) {
        let mut shared = self.lock();
        // The first reason stays.
        shared.stop.get_or_insert(stop);
        wake(&mut shared.wakers);
    }

    /// Why to stop, if so; otherwise the waker is called when that changes.
    pub(crate) fn poll_stop(&self, context: &Context<'_>) -> Poll<Stop> {
        let mut shared = self.lock();
        match shared.stop {
            Some(stop) => Poll::Ready(stop),
            None => {
                register(&mut shared.wakers, context.waker());
                Poll::Pending
            }
        }
    }

    pub(crate) fn waited(&self) -> Duration {
        self.lock().waited
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics while the lock is held; if it did, the plain data would still be sound.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens and closes for all guests of a sandbox at once, tick by tick.
#[derive(Default)]
pub(crate) struct Throttle {
    shared: Mutex<ThrottleShared>,
}

struct ThrottleShared {
    percent: u8,
    /// Share of a tick that is owed to the guests, in percent.
    owed: u32,
    open: bool,
    wakers: Vec<Waker>,
}

impl Default for ThrottleShared {
    fn default() -> Self {
        Self {
            percent: 100,
            owed: 0,
            open: true,
            wakers: Vec::new(),
        }
    }
}

impl Throttle {
    /// Sets the share of time that guests may run.
    pub(crate) fn set(&self, percent: u8) {
        let mut shared = self.lock();
        shared.percent = percent.min(100);
        if shared.percent == 100 {
            shared.open = true;
            wake(&mut shared.wakers);
        }
    }

    /// One tick has passed: decides whether the next one is open, so that over time `percent` of them are.
    pub(crate) fn tick(&self) {
        let mut shared = self.lock();
        shared.owed += u32::from(shared.percent);
        shared.open = shared.owed >= 100;
        if shared.open {
            shared.owed -= 100;
            wake(&mut shared.wakers);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleShared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a guest may go on. Always gives way once, so that a stop is seen at every tick.
pub(crate) struct Open {
    gate: Gate,
    throttle: Arc<Throttle>,
    gave_way: bool,
    since: Option<Instant>,
}

impl Open {
    pub(crate) fn new(gate: Gate, throttle: Arc<Throttle>) -> Self {
        Self {
            gate,
            throttle,
            gave_way: false,
            since: None,
        }
    }
}

impl Future for Open {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.gave_way {
            self.gave_way = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let closed = {
            let mut shared = self.gate.lock();
            if shared.parked {
                register(&mut shared.wakers, context.waker());
            }
            shared.parked
        } || {
            let mut shared = self.throttle.lock();
            if !shared.open {
                register(&mut shared.wakers, context.waker());
            }
            !shared.open
        };
        if closed {
            self.since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        if let Some(since) = self.since {
            self.gate.lock().waited += since.elapsed();
        }
        Poll::Ready(())
    }
}

/// One waker per waiting task: at most the attempts of a process.
fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

fn wake(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}

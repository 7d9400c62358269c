//! The thread that makes guests look at their gate.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::Engine;

use crate::gate::Throttle;

/// How long a guest runs before it looks at its gate: short enough that a pause feels immediate, long
/// enough that the look (about a microsecond) is nothing.
const TICK: Duration = Duration::from_millis(5);

/// Ticks while at least one attempt runs; sleeps otherwise, so that an idle runner costs nothing.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: usize,
    ended: bool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine, throttle: Arc<Throttle>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                running: 0,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let weak = engine.weak();
        let ours = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("hearth-ticker".to_owned())
            .spawn(move || {
                while ours.wait_for_work() {
                    std::thread::sleep(TICK);
                    throttle.tick();
                    match weak.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })?;
        Ok(Self { shared })
    }

    /// Ticks go on until the returned value is dropped.
    pub(crate) fn attempt(&self) -> Ticking {
        let mut state = self.shared.lock();
        state.running += 1;
        if state.running == 1 {
            self.shared.changed.notify_all();
        }
        Ticking {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the thread should end.
    fn wait_for_work(&self) -> bool {
        let state = self
            .changed
            .wait_while(self.lock(), |state| state.running == 0 && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        !state.ended
    }
}

/// Keeps the ticker going.
pub(crate) struct Ticking {
    shared: Arc<Shared>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.lock().running -= 1;
    }
}

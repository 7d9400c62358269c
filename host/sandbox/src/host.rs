//! What a guest can call: `hearth:task`'s own interfaces.
//!
//! Every call costs fuel, one for each byte it hands over and something for the crossing, so that
//! work done here for a guest is charged to it like its own ([`crate::meter`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_wire::limits::LOG_LINE_BYTES_MAX;
use hearth_wire::message::LogLevel;
use hearth_wire::runner::Resume;
use hearth_wire::{Digest, TaskLimits};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, ResourceTable, WasmList, WasmStr};
use wasmtime::{AsContext, Result, StoreContextMut};
use wasmtime_wasi::WasiCtx;

use crate::limiter::Limiter;
use crate::meter::{Debt, charge, settle};
use crate::{Hooks, rules, wasi};

/// Everything that belongs to one attempt; the data of its store.
pub(crate) struct Host {
    pub(crate) content: Digest,
    pub(crate) seed: Digest,
    pub(crate) limits: TaskLimits,
    pub(crate) limiter: Limiter,
    pub(crate) debt: Debt,
    pub(crate) voice: Voice,
    pub(crate) resume: Option<Resume>,
    /// The instance stands and runs on the task's own fuel.
    pub(crate) standing: bool,
    restoring: Restoring,
    pub(crate) table: ResourceTable,
    pub(crate) random: wasi::Random,
    /// Made when the first file function is called, which few components do.
    pub(crate) files: Option<WasiCtx>,
}

/// How far a resumed guest is with its old state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restoring {
    /// The guest has not loaded it.
    NotYet,
    /// The guest has loaded it and not saved since.
    Loaded,
    /// The guest has saved since. The meter is never put back again: a guest that loads and saves in a
    /// circle pays for it.
    Over,
}

impl Host {
    pub(crate) fn new(
        content: Digest,
        seed: Digest,
        limits: TaskLimits,
        resume: Option<Resume>,
        voice: Voice,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(rules::HANDLES_MAX);
        Self {
            content,
            seed,
            limits,
            limiter: Limiter::new(&limits),
            debt: Debt::new(rules::START_FUEL),
            voice,
            resume,
            standing: false,
            restoring: Restoring::NotYet,
            table,
            random: wasi::Random::new(seed),
            files: None,
        }
    }
}

/// The attempt's way to its owner, shared with the streams that WASI hands out.
#[derive(Clone)]
pub(crate) struct Voice {
    shared: Arc<Mutex<Speaker>>,
}

pub(crate) struct Speaker {
    pub(crate) hooks: Box<dyn Hooks>,
    log_bytes_left: u64,
    pub(crate) log_bytes_dropped: u64,
}

impl Voice {
    pub(crate) fn new(hooks: Box<dyn Hooks>, limits: &TaskLimits) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Speaker {
                hooks,
                log_bytes_left: limits.log_bytes,
                log_bytes_dropped: 0,
            })),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Speaker> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Speaker {
    /// Passes a line on as far as line and log may be long; the rest is counted.
    pub(crate) fn log(&mut self, level: LogLevel, text: &str) {
        let room = usize::try_from(self.log_bytes_left).unwrap_or(usize::MAX);
        let kept = cut(text, LOG_LINE_BYTES_MAX.min(room));
        self.log_bytes_left -= kept.len() as u64;
        self.log_bytes_dropped += (text.len() - kept.len()) as u64;
        if !kept.is_empty() {
            self.hooks.log(level, kept);
        }
    }
}

/// The longest beginning of `text` with at most `bytes` bytes that ends between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct TaskInfo {
    id: Vec<u8>,
    seed: Vec<u8>,
    limits: Limits,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Limits {
    fuel: u64,
    #[component(name = "memory-bytes")]
    memory_bytes: u64,
    #[component(name = "table-elements")]
    table_elements: u32,
    #[component(name = "output-bytes")]
    output_bytes: u64,
    #[component(name = "log-bytes")]
    log_bytes: u64,
    #[component(name = "checkpoint-bytes")]
    checkpoint_bytes: u64,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made by lifting only")]
enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// Defines `hearth:task` for guests.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    let mut context = linker.instance("hearth:task/context@0.1.0")?;
    context.func_wrap(
        "get-task",
        |mut store: StoreContextMut<'_, Host>, (): ()| {
            charge(&mut store, 64)?;
            let host = store.data();
            let limits = &host.limits;
            Ok((TaskInfo {
                id: host.content.as_bytes().to_vec(),
                seed: host.seed.as_bytes().to_vec(),
                limits: Limits {
                    fuel: limits.fuel,
                    memory_bytes: limits.memory_bytes,
                    table_elements: limits.table_elements,
                    output_bytes: limits.output_bytes,
                    log_bytes: limits.log_bytes,
                    checkpoint_bytes: limits.checkpoint_bytes,
                },
            },))
        },
    )?;

    let mut progress = linker.instance("hearth:task/progress@0.1.0")?;
    progress.func_wrap(
        "report",
        |mut store: StoreContextMut<'_, Host>, (done, total): (u64, Option<u64>)| {
            charge(&mut store, 0)?;
            store.data().voice.lock().hooks.progress(done, total);
            Ok(())
        },
    )?;
    progress.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, Host>, (level, message): (Level, WasmStr)| {
            // Read in place: what is beyond the limits is never copied.
            let bytes = message.to_str(store.as_context())?.len();
            charge(&mut store, bytes)?;
            let text = message.to_str(store.as_context())?;
            store.data().voice.lock().log(level.into(), &text);
            Ok(())
        },
    )?;

    let mut checkpoint = linker.instance("hearth:task/checkpoint@0.1.0")?;
    checkpoint.func_wrap("load", |mut store: StoreContextMut<'_, Host>, (): ()| {
        load(&mut store)
    })?;
    checkpoint.func_wrap(
        "save",
        |mut store: StoreContextMut<'_, Host>, (state,): (WasmList<u8>,)| save(&mut store, &state),
    )
}

fn load(store: &mut StoreContextMut<'_, Host>) -> Result<(Option<Vec<u8>>,)> {
    let Some(resume) = store.data().resume.clone() else {
        charge(store, 0)?;
        return Ok((None,));
    };
    // The way from the start to here is part of what the state had cost already, so the meter goes on
    // from there. What restoring costs is taken back by the first `save` of the same state.
    if store.data().restoring == Restoring::NotYet {
        set_used(store, resume.fuel_used)?;
        store.data_mut().restoring = Restoring::Loaded;
    }
    charge(store, resume.state.len())?;
    Ok((Some(resume.state),))
}

fn save(store: &mut StoreContextMut<'_, Host>, state: &WasmList<u8>) -> Result<()> {
    settle(store)?;
    if store.data().restoring == Restoring::Loaded {
        store.data_mut().restoring = Restoring::Over;
        let resumed = store
            .data()
            .resume
            .as_ref()
            .filter(|resume| resume.state == state.as_le_slice(store.as_context()))
            .map(|resume| resume.fuel_used);
        // A guest that saves what it has just loaded is where that state was made: from here on it is
        // the same run, and the meter says so, if what lies between can have been restoring.
        if let Some(used) = resumed
            && fuel_used(store)?.saturating_sub(used)
                < rules::restoring_fuel_max(&store.data().limits)
        {
            set_used(store, used)?;
        }
    }
    let used = fuel_used(store)?;
    let bytes = state.as_le_slice(store.as_context());
    let fits = bytes.len() as u64 <= store.data().limits.checkpoint_bytes;
    let len = bytes.len();
    if fits {
        let mut speaker = store.data().voice.lock();
        if speaker.hooks.wants_checkpoint() {
            let state = bytes.to_vec();
            speaker.hooks.checkpoint(state, used);
        }
    }
    charge(store, len)
}

fn fuel_used(store: &StoreContextMut<'_, Host>) -> Result<u64> {
    Ok(store.data().limits.fuel.saturating_sub(store.get_fuel()?))
}

fn set_used(store: &mut StoreContextMut<'_, Host>, used: u64) -> Result<()> {
    // What was owed until now is in `used`, or is what restoring costs.
    store.data().debt.take();
    let left = store.data().limits.fuel.saturating_sub(used);
    store.set_fuel(left)
}

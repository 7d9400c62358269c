//! The locked subset of WASI 0.2: what a standard library touches though the task does not.
//!
//! No environment, no arguments, no input, no folder, no time, no sockets. Output is log. Random numbers
//! come from the task's seed where the interface allows that (`insecure`, `insecure-seed`); those of
//! `wasi:random/random` must be unpredictable, so calling for them ends the attempt as `Forbidden`.

use bytes::Bytes;
use hearth_wire::message::LogLevel;
use hearth_wire::{Digest, Hasher};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{Result, bail};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p2::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, OutputStream, Pollable, StreamError,
    StreamResult, subscribe,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, async_trait};

use crate::host::{Host, Voice};
use crate::meter::Debt;
use crate::outcome::Fault;
use crate::rules;

/// Bytes that a guest may write to its output in one call of the stream.
const WRITE_BYTES: usize = 64 << 10;
/// Fuel for one hash, which is what a single number takes.
const BLOCK_FUEL: u64 = 32 * rules::RANDOM_BYTE_FUEL;

struct Own;

impl HasData for Own {
    type Data<'a> = &'a mut Host;
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

struct Polling;

impl HasData for Polling {
    type Data<'a> = Polls<'a>;
}

/// Defines the subset for guests. Every call comes through one of these functions, which is where it is
/// charged; what it carries is charged where it is at hand.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    fn own(host: &mut Host) -> &mut Host {
        host.debt.call();
        host
    }
    fn table(host: &mut Host) -> &mut ResourceTable {
        &mut own(host).table
    }
    fn polls(host: &mut Host) -> Polls<'_> {
        Polls(own(host))
    }
    fn files(host: &mut Host) -> WasiFilesystemCtxView<'_> {
        own(host).filesystem()
    }
    let l = linker;
    io::error::add_to_linker::<Host, Table>(l, table)?;
    io::poll::add_to_linker::<Host, Polling>(l, polls)?;
    io::streams::add_to_linker::<Host, Table>(l, table)?;
    clocks::wall_clock::add_to_linker::<Host, Own>(l, own)?;
    clocks::monotonic_clock::add_to_linker::<Host, Own>(l, own)?;
    random::random::add_to_linker::<Host, Own>(l, own)?;
    random::insecure::add_to_linker::<Host, Own>(l, own)?;
    random::insecure_seed::add_to_linker::<Host, Own>(l, own)?;
    cli::environment::add_to_linker::<Host, Own>(l, own)?;
    cli::exit::add_to_linker::<Host, Own>(l, own)?;
    cli::stdin::add_to_linker::<Host, Own>(l, own)?;
    cli::stdout::add_to_linker::<Host, Own>(l, own)?;
    cli::stderr::add_to_linker::<Host, Own>(l, own)?;
    cli::terminal_input::add_to_linker::<Host, Own>(l, own)?;
    cli::terminal_output::add_to_linker::<Host, Own>(l, own)?;
    cli::terminal_stdin::add_to_linker::<Host, Own>(l, own)?;
    cli::terminal_stdout::add_to_linker::<Host, Own>(l, own)?;
    cli::terminal_stderr::add_to_linker::<Host, Own>(l, own)?;
    filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(l, files)?;
    filesystem::types::add_to_linker::<Host, WasiFilesystem>(l, files)
}

/// `wasi:io/poll`, where a list may be as long as one call can carry.
struct Polls<'a>(&'a mut Host);

impl io::poll::Host for Polls<'_> {
    async fn poll(&mut self, list: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        self.0.debt.add(list.len() as u64 * rules::CALL_FUEL)?;
        self.0.table.poll(list).await
    }
}

impl io::poll::HostPollable for Polls<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        self.0.table.ready(pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        self.0.table.block(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        io::poll::HostPollable::drop(&mut self.0.table, pollable)
    }
}

impl WasiView for Host {
    /// Only the file functions come here, and without a folder all they can do is say so.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.files.get_or_insert_with(|| WasiCtx::builder().build()),
            table: &mut self.table,
        }
    }
}

/// Numbers that follow from the task's seed alone.
pub(crate) struct Random {
    seed: Digest,
    blocks: u64,
}

impl Random {
    pub(crate) fn new(seed: Digest) -> Self {
        Self { seed, blocks: 0 }
    }

    fn block(&mut self) -> [u8; 32] {
        self.blocks += 1;
        *Hasher::with_domain("hearth.random.v1")
            .field(self.seed.as_bytes())
            .number(self.blocks)
            .finish()
            .as_bytes()
    }

    fn number(&mut self) -> u64 {
        let block = self.block();
        block
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl random::random::Host for Host {
    fn get_random_bytes(&mut self, _len: u64) -> Result<Vec<u8>> {
        Err(Fault::Forbidden.into())
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Err(Fault::Forbidden.into())
    }
}

impl random::insecure::Host for Host {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > rules::RANDOM_BYTES_MAX {
            bail!(
                "{len} random bytes at once, at most {}",
                rules::RANDOM_BYTES_MAX
            );
        }
        self.debt.add(len * rules::RANDOM_BYTE_FUEL)?;
        let mut bytes = Vec::with_capacity(len as usize + 32);
        while (bytes.len() as u64) < len {
            bytes.extend(self.random.block());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        self.debt.add(BLOCK_FUEL)?;
        Ok(self.random.number())
    }
}

impl random::insecure_seed::Host for Host {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        self.debt.add(2 * BLOCK_FUEL)?;
        Ok((self.random.number(), self.random.number()))
    }
}

/// The clocks stand at zero, so that they tell nothing.
impl clocks::wall_clock::Host for Host {
    fn now(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 0,
        })
    }

    fn resolution(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: 1,
            nanoseconds: 0,
        })
    }
}

impl clocks::monotonic_clock::Host for Host {
    fn now(&mut self) -> Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    /// Where time stands still, every wait is over at once: the alternative is to wait for ever.
    fn subscribe_instant(&mut self, _when: u64) -> Result<Resource<DynPollable>> {
        let now = self.table.push(Now)?;
        subscribe(&mut self.table, now)
    }

    fn subscribe_duration(&mut self, _when: u64) -> Result<Resource<DynPollable>> {
        self.subscribe_instant(0)
    }
}

struct Now;

#[async_trait]
impl Pollable for Now {
    async fn ready(&mut self) {}
}

impl cli::environment::Host for Host {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A task returns; it does not exit.
impl cli::exit::Host for Host {
    fn exit(&mut self, _status: std::result::Result<(), ()>) -> Result<()> {
        bail!("the guest called exit instead of returning")
    }

    fn exit_with_code(&mut self, _code: u8) -> Result<()> {
        bail!("the guest called exit instead of returning")
    }
}

impl cli::stdin::Host for Host {
    fn get_stdin(&mut self) -> Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for Host {
    fn get_stdout(&mut self) -> Result<Resource<DynOutputStream>> {
        self.output(LogLevel::Info)
    }
}

impl cli::stderr::Host for Host {
    fn get_stderr(&mut self) -> Result<Resource<DynOutputStream>> {
        self.output(LogLevel::Warn)
    }
}

impl Host {
    fn output(&mut self, level: LogLevel) -> Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream {
            voice: self.voice.clone(),
            debt: self.debt.clone(),
            level,
        });
        Ok(self.table.push(stream)?)
    }
}

/// What a guest prints is log: kept within its limit, and counted beyond it, so that a full log is no
/// reason to fail.
struct LogStream {
    voice: Voice,
    debt: Debt,
    level: LogLevel,
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.debt
            .add(bytes.len() as u64)
            .map_err(StreamError::Trap)?;
        let mut speaker = self.voice.lock();
        for line in String::from_utf8_lossy(&bytes).lines() {
            speaker.log(self.level, line);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl cli::terminal_input::Host for Host {}
impl cli::terminal_output::Host for Host {}

impl cli::terminal_input::HostTerminalInput for Host {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::HostTerminalOutput for Host {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for Host {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for Host {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for Host {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

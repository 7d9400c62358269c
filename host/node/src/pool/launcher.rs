//! Starts runners and compile processes, and ends them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_wire::text::is_control;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// Bytes of a child's standard error that are kept for the line that tells of its end.
const STDERR_TAIL_BYTES: usize = 2 << 10;
/// Lines of a child's standard error that are logged; the rest is read and dropped.
const STDERR_LINES_MAX: usize = 200;
/// From the end of the socket until a child that still lives is killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Runs attempts: `ToRunner` in, `FromRunner` out.
    Runner,
    /// Compiles one component: `CompileRequest` in, `CompileReply` out.
    Compiler,
}

/// Serves one end of a socketpair until it closes. Called on a thread of its own.
pub type InProcess = dyn Fn(UnixStream, Kind) + Send + Sync;

/// How children are started.
#[derive(Clone)]
pub enum Launcher {
    /// As processes: the socketpair is their standard input (descriptor 0), the environment is
    /// empty, the process group their own. They end when their socket closes.
    Program {
        /// The program; never searched for.
        path: PathBuf,
        /// Its arguments for a runner.
        runner_args: Vec<String>,
        /// Its arguments for a compile process.
        compiler_args: Vec<String>,
    },
    /// As threads of this process, for an embedding program that accepts that a flaw in the engine
    /// is then a flaw in itself: no confinement, and a crash takes everything along.
    InProcess(Arc<InProcess>),
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { path, .. } => f.debug_tuple("Program").field(path).finish(),
            Self::InProcess(_) => f.write_str("InProcess"),
        }
    }
}

/// A child could not be started.
#[derive(Debug, thiserror::Error)]
#[error("starting {program}: {source}; check that the file is there and may be run")]
pub struct LaunchError {
    /// What was started.
    pub program: String,
    /// Why it failed.
    pub source: std::io::Error,
}

/// A started child: its socket and what can be done to it.
pub(super) struct Launched {
    /// Our end of the socketpair.
    pub(super) socket: tokio::net::UnixStream,
    /// The child behind it.
    pub(super) body: Body,
}

/// The child itself.
pub(super) enum Body {
    /// A process and the end of what it wrote to its standard error.
    Process(Box<Child>, Arc<Mutex<Vec<u8>>>),
    /// A thread: it can only be asked to end, by closing its socket.
    Thread,
}

/// How a child ended.
pub(super) struct Ended {
    /// For people.
    pub(super) text: String,
    signal: Option<i32>,
}

impl Ended {
    /// Whether the system ended it for the CPU time that it had used.
    pub(super) fn out_of_cpu_time(&self) -> bool {
        self.signal == Some(rustix::process::Signal::XCPU.as_raw())
    }
}

impl Launcher {
    /// Whether children are threads of this process.
    pub(super) fn in_process(&self) -> bool {
        matches!(self, Self::InProcess(_))
    }

    /// Starts a child. Must be called within a Tokio runtime.
    pub(super) fn start(&self, kind: Kind, nice: i32) -> Result<Launched, LaunchError> {
        let error = |source| LaunchError {
            program: match self {
                Self::Program { path, .. } => path.display().to_string(),
                Self::InProcess(_) => "a runner thread".to_owned(),
            },
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(error)?;
        ours.set_nonblocking(true).map_err(error)?;
        let socket = tokio::net::UnixStream::from_std(ours).map_err(error)?;
        let body = match self {
            Self::Program {
                path,
                runner_args,
                compiler_args,
            } => {
                let args = match kind {
                    Kind::Runner => runner_args,
                    Kind::Compiler => compiler_args,
                };
                let mut child = Command::new(path)
                    .args(args)
                    .env_clear()
                    .stdin(Stdio::from(OwnedFd::from(theirs)))
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .current_dir("/")
                    .process_group(0)
                    .kill_on_drop(true)
                    .spawn()
                    .map_err(error)?;
                renice(&child, nice);
                let tail = Arc::default();
                if let Some(stderr) = child.stderr.take() {
                    tokio::spawn(log_stderr(stderr, kind, child.id(), Arc::clone(&tail)));
                }
                Body::Process(Box::new(child), tail)
            }
            Self::InProcess(serve) => {
                let serve = Arc::clone(serve);
                std::thread::Builder::new()
                    .name("hearth-runner".to_owned())
                    .spawn(move || serve(theirs, kind))
                    .map_err(error)?;
                Body::Thread
            }
        };
        Ok(Launched { socket, body })
    }
}

impl Body {
    /// The process's id.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(child, _) => child.id(),
            Self::Thread => None,
        }
    }

    /// Ends the child and says how it ended. Our end of the socket must be closed, or the grace
    /// passes for nothing. With `kill` no grace is given.
    pub(super) async fn end(self, kill: bool) -> Ended {
        let Self::Process(mut child, tail) = self else {
            return Ended {
                text: "its socket closed".to_owned(),
                signal: None,
            };
        };
        let exited = if kill {
            None
        } else {
            tokio::time::timeout(EXIT_GRACE, child.wait()).await.ok()
        };
        let status = match exited {
            Some(status) => status,
            None => {
                // The group, because a child has no business starting others that outlive it.
                let group = child
                    .id()
                    .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
                if let Some(group) = group {
                    let _gone =
                        rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                child.wait().await
            }
        };
        let signal = status.as_ref().ok().and_then(ExitStatus::signal);
        let mut text = match status {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown status: {error}"),
        };
        let tail = tail.lock().unwrap_or_else(|poison| poison.into_inner());
        let tail = String::from_utf8_lossy(&tail);
        if let Some(last) = tail.trim().lines().last() {
            text.push_str(": ");
            text.extend(last.chars().filter(|c| !is_control(*c)).take(400));
        }
        Ended { text, signal }
    }
}

fn renice(child: &Child, nice: i32) {
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if nice == 0 || pid.is_none() {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(pid, nice) {
        tracing::warn!(%error, nice, "the niceness of a child could not be set");
    }
}

/// Reads all of a child's standard error, so that it never blocks, and logs the beginning of it.
async fn log_stderr(
    stderr: tokio::process::ChildStderr,
    kind: Kind,
    pid: Option<u32>,
    tail: Arc<Mutex<Vec<u8>>>,
) {
    let mut stderr = BufReader::new(stderr);
    let mut chunk = [0; 1024];
    let mut line = Vec::new();
    let mut lines = 0;
    while let Ok(read) = stderr.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        let bytes = &chunk[..read];
        {
            let mut tail = tail.lock().unwrap_or_else(|poison| poison.into_inner());
            tail.extend_from_slice(bytes);
            let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
            tail.drain(..excess);
        }
        for &byte in bytes {
            if byte != b'\n' && line.len() < 512 {
                line.push(byte);
                continue;
            }
            if lines < STDERR_LINES_MAX && !line.is_empty() {
                // Guests cannot write here, but a taken-over runner can: control characters go.
                let text: String = String::from_utf8_lossy(&line)
                    .chars()
                    .filter(|c| !is_control(*c))
                    .collect();
                tracing::info!(?kind, pid, "{text}");
            }
            lines += 1;
            line.clear();
        }
    }
}

//! The local host: a node in a child process, started beside the coordinator.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hearth_net::backoff::Backoff;
use hearth_wire::message::Refusal;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::api::{self, Caller, Origin};
use crate::config::LocalHostConfig;
use crate::session::{self, Member};
use crate::shell::Shell;
use crate::troubles;

/// A local host that lived this long was well: the next restart is quick again.
const HEALTHY: Duration = Duration::from_secs(10);

/// How long the session may outlive the stream for blobs.
const STREAMS_APART: Duration = Duration::from_millis(500);

/// How long a local host has to end by itself.
const FAREWELL: Duration = Duration::from_secs(3);

/// Keeps a local host running until shutdown.
///
/// It is a node like any other but for its two streams: inherited socketpairs, which nobody else
/// can hold an end of, in place of a certificate. When it dies, its leases wait again at once and a
/// new one is started, slower each time while it keeps dying.
pub(crate) async fn supervise(shell: Arc<Shell>, config: LocalHostConfig, router: Router) {
    let mut shutdown = shell.shutdown.clone();
    let mut backoff = Backoff::reconnect();
    while !shutdown.is_requested() {
        let started = Instant::now();
        match live(&shell, &config, router.clone()).await {
            Ok(()) => tracing::info!("the local host has ended"),
            Err(error) => tracing::error!(
                program = %config.program.display(),
                %error,
                "the local host cannot be started"
            ),
        }
        if was_drained(&shell) {
            tracing::warn!("the local host was drained: it starts again with the coordinator");
            shell.troubles.set_local(Some(troubles::drained()));
            shutdown.requested().await;
            return;
        }
        if started.elapsed() >= HEALTHY {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = shutdown.requested() => {}
        }
    }
}

/// Whether the operator asked the local host to leave: then it stays away until the next start. Joining
/// again would undo that.
fn was_drained(shell: &Shell) -> bool {
    let state = shell.views.read();
    let view = state.nodes.get(shell.local_node);
    view.is_some_and(|view| view.draining)
}

/// One life of a local host.
async fn live(shell: &Arc<Shell>, config: &LocalHostConfig, router: Router) -> io::Result<()> {
    let (messages, child_messages) = StdUnixStream::pair()?;
    let (http, child_http) = StdUnixStream::pair()?;
    let mut child = spawn(config, child_messages, child_http)?;
    shell.metrics.local_starts.inc();
    let serving: tokio::task::JoinHandle<()> = {
        let (shell, node) = (Arc::clone(shell), shell.local_node);
        let (messages, http) = (stream(messages)?, stream(http)?);
        let shutdown = shell.shutdown.clone();
        let origin = Origin::Local(Caller::local(node));
        // A task of its own: it sees the end of the streams and tells core, however this life ends.
        tokio::spawn(async move {
            let blobs = api::serve(http, router, origin, None, shutdown);
            let keeper = Arc::clone(&shell);
            let session = session::serve(shell, messages, Member::Local(node), None);
            // One without the other could lease and not read, or read and not lease.
            tokio::pin!(session);
            tokio::select! {
                () = &mut session => return,
                ended = blobs => tracing::debug!(?ended, "the local host's HTTP stream ended"),
            }
            // A dead child ends both streams; a living one that closed this one is given up.
            let ended = tokio::time::timeout(STREAMS_APART, &mut session).await;
            if ended.is_err() {
                if let Some(connected) = keeper.connections.get(node) {
                    let problem = "the stream for blobs was closed".to_owned();
                    connected.end(Refusal::Protocol(problem));
                }
                session.await;
            }
        })
    };
    let mut serving = serving;
    tokio::select! {
        _ = &mut serving => end(&mut child).await,
        status = child.wait() => {
            let status = status?;
            if shell.shutdown.is_requested() || status.success() {
                tracing::info!(%status, "the local host ended when it was asked to");
            } else {
                tracing::warn!(%status, "the local host died");
            }
            // Its session must have ended before the next one says hello.
            let _ = tokio::time::timeout(FAREWELL, serving).await;
            Ok(())
        }
    }
}

/// Both streams are closed, which asks a local host to end; one that does not is killed.
async fn end(child: &mut Child) -> io::Result<()> {
    let waited = tokio::time::timeout(FAREWELL, child.wait()).await;
    if waited.is_err() {
        child.kill().await?;
    }
    Ok(())
}

fn stream(stream: StdUnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// File descriptor 0 is the WebSocket stream, 1 the HTTP stream, 2 the log. Everything else of ours
/// is closed in the child: the standard library opens nothing that is inherited.
fn spawn(
    config: &LocalHostConfig,
    messages: StdUnixStream,
    http: StdUnixStream,
) -> io::Result<Child> {
    Command::new(&config.program)
        .args(&config.args)
        .stdin(Stdio::from(OwnedFd::from(messages)))
        .stdout(Stdio::from(OwnedFd::from(http)))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
}

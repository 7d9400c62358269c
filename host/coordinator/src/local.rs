//! The local host: a node in a child process, started beside the coordinator.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hearth_net::backoff::Backoff;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::api::{self, Caller, Origin};
use crate::config::LocalHostConfig;
use crate::session::{self, Member};
use crate::shell::Shell;

/// A local host that lived this long was well: the next restart is quick again.
const HEALTHY: Duration = Duration::from_secs(10);

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
        if started.elapsed() >= HEALTHY {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = shutdown.requested() => {}
        }
    }
}

/// One life of a local host.
async fn live(shell: &Arc<Shell>, config: &LocalHostConfig, router: Router) -> io::Result<()> {
    let (messages, child_messages) = StdUnixStream::pair()?;
    let (http, child_http) = StdUnixStream::pair()?;
    let mut child = spawn(config, child_messages, child_http)?;
    shell.metrics.local_starts.inc();
    let serving = {
        let (shell, node) = (Arc::clone(shell), shell.local_node);
        let (messages, http) = (stream(messages)?, stream(http)?);
        let shutdown = shell.shutdown.clone();
        let origin = Origin::Member(Caller::local(node));
        async move {
            let blobs = api::serve(http, router, origin, None, shutdown);
            let session = session::serve(shell, messages, Member::Local(node), None);
            // The session is the local host; its blobs alone are nothing.
            tokio::pin!(blobs);
            tokio::pin!(session);
            let mut blobs_ended = false;
            loop {
                tokio::select! {
                    () = &mut session => return,
                    _ = &mut blobs, if !blobs_ended => blobs_ended = true,
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        status = child.wait() => {
            if let Ok(status) = status {
                tracing::warn!(%status, "the local host died");
            }
            return Ok(());
        }
    }
    end(&mut child).await
}

/// Both streams are closed, which asks a local host to end; one that does not is killed.
async fn end(child: &mut Child) -> io::Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(3), child.wait()).await;
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

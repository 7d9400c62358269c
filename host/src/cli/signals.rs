//! SIGTERM and SIGINT: an orderly end, and at once when asked twice.

use std::io;
use std::time::Duration;

use hearth_net::shutdown::{self, Shutdown};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Resolves with the first signal; the second ends the process where it is.
pub(crate) fn asked_to_stop() -> io::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            // The user has asked twice; 130 is what shells show for an interrupted program.
            std::process::exit(130);
        });
    })
}

/// Gives signals their usual meaning back, the end of the process: once listened to, they have none.
pub(crate) fn end_at_once() -> io::Result<()> {
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(130);
    });
    Ok(())
}

/// A shutdown that the first signal requests, with `grace` for what is under way.
pub(crate) fn shutdown(grace: Duration) -> io::Result<Shutdown> {
    let (trigger, shutdown) = shutdown::shutdown();
    let asked = asked_to_stop()?;
    tokio::spawn(async move {
        asked.await;
        trigger.request(grace);
        // The trigger lives as long as the process: dropping it would cut the grace short.
        std::future::pending::<()>().await;
    });
    Ok(shutdown)
}

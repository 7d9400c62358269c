//! One runner: the process, what is written to it, and what it says.

use std::sync::Arc;
use std::time::Duration;

use hearth_wire::limits::{ERROR_TEXT_BYTES_MAX, LOG_LINE_BYTES_MAX};
use hearth_wire::runner::{FromRunner, ToRunner};
use hearth_wire::text::is_control;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::dispatch::{Alive, Shared};
use super::events::RunEvent;
use super::judge::cut;
use super::launcher::Kind;
use super::link::{LinkError, read_frame, write_frame};
use super::state::{Outgoing, RunnerId};

/// Notices (progress, logs, checkpoints) read from one runner in a second. An honest one merges and
/// sends far fewer; beyond it the runner is read no further until the second is over.
const NOTICES_PER_SECOND_MAX: u32 = 4_000;

/// Runs one runner from its start to its end.
pub(super) async fn drive(
    shared: Arc<Shared>,
    id: RunnerId,
    outgoing: mpsc::Receiver<Outgoing>,
    killed: oneshot::Receiver<()>,
) {
    let why = {
        let _alive = Alive::new(&shared);
        attend(&shared, id, outgoing, killed).await
    };
    shared.lock().on_gone(id, &why);
    shared.progress.send_modify(|count| *count += 1);
    shared.wake.notify_one();
}

async fn attend(
    shared: &Arc<Shared>,
    id: RunnerId,
    outgoing: mpsc::Receiver<Outgoing>,
    mut killed: oneshot::Receiver<()>,
) -> String {
    let launched = match shared
        .config
        .launcher
        .start(Kind::Runner, shared.config.nice)
    {
        Ok(launched) => launched,
        Err(error) => return error.to_string(),
    };
    shared.lock().on_started(id, launched.body.pid());
    let (mut from, to) = launched.socket.into_split();
    let writer = tokio::spawn(write(to, outgoing));
    let mut buffer = Vec::new();
    let mut notices = Notices::default();
    let (trouble, kill) = loop {
        let frame = tokio::select! {
            frame = read_frame::<FromRunner>(&mut from, &mut buffer) => frame,
            _ = &mut killed => break ("it was stopped".to_owned(), true),
        };
        let message = match frame {
            Ok(message) => message,
            Err(LinkError::Closed) => break (String::new(), false),
            Err(error) => break (error.to_string(), true),
        };
        if let Err(breach) = hear(shared, id, message, &mut notices) {
            break (breach, true);
        }
        if let Some(rest) = notices.excess() {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = &mut killed => break ("it was stopped".to_owned(), true),
            }
        }
    };
    // Both halves go before the child is waited for: the end of the socket is what ends it.
    writer.abort();
    let _aborted = writer.await;
    drop(from);
    let status = launched.body.end(kill).await.text;
    if trouble.is_empty() {
        status
    } else {
        format!("{trouble} ({status})")
    }
}

/// Hands a message to the state.
fn hear(
    shared: &Shared,
    id: RunnerId,
    message: FromRunner,
    notices: &mut Notices,
) -> Result<(), String> {
    match message {
        FromRunner::Ready(ready) => {
            shared.lock().on_ready(id, ready)?;
            shared.progress.send_modify(|count| *count += 1);
            shared.wake.notify_one();
        }
        FromRunner::Finished(ended) => {
            {
                let mut state = shared.lock();
                for finished in ended {
                    state.on_finished(id, finished)?;
                }
            }
            shared.wake.notify_one();
        }
        FromRunner::NotLoaded { attempt, mut text } => {
            cut(&mut text, ERROR_TEXT_BYTES_MAX);
            shared.lock().on_not_loaded(id, attempt, text)?;
            shared.wake.notify_one();
        }
        FromRunner::Progress(merged) => {
            notices.count += merged.len() as u32;
            let mut state = shared.lock();
            for progress in merged {
                state.on_notice(
                    id,
                    RunEvent::Progress {
                        attempt: progress.attempt,
                        done: progress.done,
                        total: progress.total,
                    },
                );
            }
        }
        FromRunner::Log {
            attempt,
            level,
            mut text,
        } => {
            notices.count += 1;
            // A terminal must not be steered by a guest.
            text = text.replace(|c| is_control(c) && c != '\t', "\u{fffd}");
            cut(&mut text, LOG_LINE_BYTES_MAX);
            shared.lock().on_notice(
                id,
                RunEvent::Log {
                    attempt,
                    level,
                    text,
                },
            );
        }
        FromRunner::Checkpoint {
            attempt,
            state,
            fuel_used,
        } => {
            notices.count += 1;
            shared.lock().on_notice(
                id,
                RunEvent::Checkpoint {
                    attempt,
                    state,
                    fuel_used,
                },
            );
        }
    }
    Ok(())
}

/// Counts notices by the second.
struct Notices {
    since: Instant,
    count: u32,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }
}

impl Notices {
    /// How long to read nothing, if there were too many.
    fn excess(&mut self) -> Option<Duration> {
        if self.count < NOTICES_PER_SECOND_MAX {
            return None;
        }
        let rest = Duration::from_secs(1).saturating_sub(self.since.elapsed());
        *self = Self {
            since: Instant::now() + rest,
            count: 0,
        };
        (!rest.is_zero()).then_some(rest)
    }
}

async fn write(mut to: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(out) = outgoing.recv().await {
        let written = match out {
            Outgoing::Message(message) => write_frame(&mut to, &message).await,
            Outgoing::Load(component, artefact) => {
                let artefact = artefact.to_vec();
                write_frame(
                    &mut to,
                    &ToRunner::Load {
                        component,
                        artefact,
                    },
                )
                .await
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "writing to a runner");
            return;
        }
    }
    let _closed = to.shutdown().await;
}

//! What core wants to tell nodes, on its way to their sessions.

use std::collections::HashMap;

use hearth_core::Grant;
use hearth_wire::message::Refusal;
use hearth_wire::{AttemptId, Epoch, Seq, SessionId, limits};
use tokio::sync::mpsc;

/// What a session is told to say to its node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    /// The node is taken in.
    Welcome {
        epoch: Epoch,
        unwanted: Vec<AttemptId>,
    },
    /// Work; inputs and releases are filled in by the session.
    Grant {
        leases: Vec<Grant>,
        /// The record that holds them, or a later one.
        seq: Seq,
    },
    /// Attempts that are wanted no longer.
    Cancel(Vec<AttemptId>),
    /// Attempts to park.
    Pause(Vec<AttemptId>),
    /// Attempts to go on with.
    Resume(Vec<AttemptId>),
    /// Reports that may be forgotten.
    Settled(Vec<AttemptId>),
    /// Leave when done.
    Drain,
    /// The connection ends.
    Close(Refusal),
}

/// The driver's end of a session.
#[derive(Debug)]
pub(crate) struct SessionOutbox {
    session: SessionId,
    commands: mpsc::Sender<Command>,
}

impl SessionOutbox {
    /// An outbox for a session and what comes out of it.
    pub(crate) fn new(session: SessionId) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(limits::OUTBOX_MESSAGES_MAX);
        (Self { session, commands }, receiver)
    }
}

/// The outboxes of all sessions.
///
/// The driver never waits for one: a session whose outbox is full has a node that does not read, so
/// it is dropped here, its receiver sees the end, and the session closes with `Refusal::Slow`.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    by_session: HashMap<SessionId, mpsc::Sender<Command>>,
}

impl Outboxes {
    pub(super) fn add(&mut self, outbox: SessionOutbox) {
        // Ended sessions leave their senders behind; looked for only when the table has doubled.
        if self.by_session.len() == self.by_session.capacity() {
            self.by_session.retain(|_, commands| !commands.is_closed());
        }
        self.by_session.insert(outbox.session, outbox.commands);
    }

    pub(super) fn send(&mut self, session: SessionId, command: Command) {
        if let Some(commands) = self.by_session.get(&session)
            && commands.try_send(command).is_err()
        {
            self.by_session.remove(&session);
        }
    }

    /// Tells a session to end. It hears no more afterwards.
    pub(super) fn close(&mut self, session: SessionId, reason: Refusal) {
        self.send(session, Command::Close(reason));
        self.by_session.remove(&session);
    }
}

//! Who is connected now: what is not journaled about nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_identity::{Maker, certificate_key};
use hearth_wire::message::{Load, Refusal};
use hearth_wire::runner::Confinement;
use hearth_wire::{NodeId, NodePublicKey, SessionId, limits};
use tokio::sync::watch;

use crate::clock::uptime_millis;

/// A session younger than this since its last sign of life keeps its node to itself: two processes
/// with one key would otherwise throw each other out for ever.
const LIVELY_MILLIS: u64 = limits::IDLE_HEARTBEAT_MILLIS + limits::HEARTBEAT_MILLIS;

/// One connected node.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) session: SessionId,
    pub(crate) node: NodeId,
    pub(crate) confinement: Confinement,
    heard: AtomicU64,
    load: Mutex<Load>,
    end: watch::Sender<Option<Refusal>>,
}

impl Connected {
    /// A sign of life.
    pub(crate) fn heard(&self) {
        self.heard.store(uptime_millis(), Ordering::Relaxed);
    }

    /// A heartbeat.
    pub(crate) fn beat(&self, load: Load) {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// When it was last heard, by [`uptime_millis`].
    pub(crate) fn last_heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// What its last heartbeat said.
    pub(crate) fn load(&self) -> Load {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the session to end.
    pub(crate) fn end(&self, reason: Refusal) {
        self.end.send_replace(Some(reason));
    }

    /// Hears when the session is asked to end.
    pub(crate) fn ending(&self) -> watch::Receiver<Option<Refusal>> {
        self.end.subscribe()
    }
}

/// All connected nodes, and the keys of those that were.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    connected: HashMap<NodeId, Arc<Connected>>,
    /// Makers of checkpoints are looked up here. `None` is the local host.
    keys: HashMap<NodeId, Option<NodePublicKey>>,
    /// Keys of members as the journal has them: a checkpoint outlives its makers' connections, and
    /// this process.
    journaled: HashMap<NodeId, NodePublicKey>,
    /// When nodes that are gone were last heard.
    gone: HashMap<NodeId, u64>,
}

impl Connections {
    /// Nobody is connected; these keys are known from the journal.
    pub(crate) fn new(journaled: HashMap<NodeId, NodePublicKey>) -> Self {
        let connections = Self::default();
        connections.lock().journaled = journaled;
        connections
    }

    /// Somebody has enrolled.
    pub(crate) fn enrolled(&self, node: NodeId, certificate: &[u8]) {
        remember_key(&mut self.lock().journaled, node, certificate);
    }

    /// Takes a node in, in place of an older session that is silent.
    pub(crate) fn enter(
        &self,
        node: NodeId,
        session: SessionId,
        key: Option<NodePublicKey>,
        confinement: Confinement,
    ) -> Result<Arc<Connected>, Refusal> {
        let mut inner = self.lock();
        if let Some(older) = inner.connected.get(&node) {
            if uptime_millis().saturating_sub(older.last_heard()) < LIVELY_MILLIS {
                return Err(Refusal::Duplicate);
            }
            older.end(Refusal::Duplicate);
        }
        if inner.keys.len() >= limits::NODES_MAX && !inner.keys.contains_key(&node) {
            return Err(Refusal::Full);
        }
        inner.keys.insert(node, key);
        inner.gone.remove(&node);
        let (end, _) = watch::channel(None);
        let connected = Arc::new(Connected {
            session,
            node,
            confinement,
            heard: AtomicU64::new(uptime_millis()),
            load: Mutex::default(),
            end,
        });
        inner.connected.insert(node, Arc::clone(&connected));
        Ok(connected)
    }

    /// The session has ended.
    pub(crate) fn leave(&self, connected: &Connected) {
        let mut inner = self.lock();
        let current = inner.connected.get(&connected.node);
        if current.is_some_and(|now| now.session == connected.session) {
            inner.connected.remove(&connected.node);
            inner.gone.insert(connected.node, connected.last_heard());
        }
    }

    /// A connected node.
    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Connected>> {
        self.lock().connected.get(&node).cloned()
    }

    /// When a node was last heard, by [`uptime_millis`].
    pub(crate) fn last_heard(&self, node: NodeId) -> Option<u64> {
        let inner = self.lock();
        match inner.connected.get(&node) {
            Some(connected) => Some(connected.last_heard()),
            None => inner.gone.get(&node).copied(),
        }
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        self.lock().connected.len()
    }

    /// Who made a checkpoint, if the realm has ever taken them in.
    pub(crate) fn maker(&self, node: NodeId) -> Option<Maker> {
        let inner = self.lock();
        let journaled = || inner.journaled.get(&node).cloned().map(Maker::Key);
        match inner.keys.get(&node) {
            Some(Some(key)) => Some(Maker::Key(key.clone())),
            Some(None) => Some(Maker::Local),
            // The local host of an earlier life has the same name and no key.
            None if node == NodeId::default() => Some(Maker::Local),
            None => journaled(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the key of a member from its certificate, while there is room.
pub(crate) fn remember_key(
    keys: &mut HashMap<NodeId, NodePublicKey>,
    node: NodeId,
    certificate: &[u8],
) {
    if keys.len() < limits::NODES_MAX
        && let Some(key) = certificate_key(certificate, node)
    {
        keys.insert(node, key);
    }
}

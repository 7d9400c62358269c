//! How a session begins.

use std::sync::Arc;

use hearth_core::Event;
use hearth_wire::message::{Hello, Refusal};
use hearth_wire::record::{NodeKind, NodeProfile};
use hearth_wire::text::is_label;
use hearth_wire::{EngineId, limits};
use tokio::sync::mpsc;

use super::{Member, protocol};
use crate::driver::{Action, Command, SessionOutbox};
use crate::nodes::Connected;
use crate::shell::Shell;
use crate::troubles;

/// A node that may try to join.
pub(super) struct Greeted {
    /// Its place among the connected.
    pub(super) connected: Arc<Connected>,
    /// What core has to say to it.
    pub(super) commands: mpsc::Receiver<Command>,
    /// For the driver.
    pub(super) join: Action,
    /// What its reports must name.
    pub(super) engine: EngineId,
}

/// Checks a hello and takes the node in; `None` for one that will refuse us, because it has seen a newer
/// life of this realm.
pub(super) fn greet(
    shell: &Arc<Shell>,
    member: &Member,
    hello: Hello,
) -> Result<Option<Greeted>, Refusal> {
    check(&hello)?;
    let node = member.node();
    let (kind, key) = match member {
        Member::Local(_) => (NodeKind::Local, None),
        Member::Remote(peer) => {
            let trusted = shell.trusted();
            let policy = trusted.policy.policy();
            if trusted.policy.is_revoked(node) {
                return Err(Refusal::Revoked);
            }
            if hello.engine.version < policy.engine_min {
                let [major, minor, patch] = policy.engine_min;
                return Err(Refusal::EngineTooOld(format!("{major}.{minor}.{patch}")));
            }
            let kind = if trusted.policy.is_trusted_node(node) {
                NodeKind::Trusted
            } else {
                NodeKind::Volunteer
            };
            (kind, Some(peer.public_key().clone()))
        }
    };
    let newer = hello.seen_epoch.counter >= shell.epoch.counter && hello.seen_epoch != shell.epoch;
    if matches!(member, Member::Local(_)) {
        let trouble = newer
            .then(|| troubles::older_than_seen(hello.seen_epoch, shell.epoch, shell.dir.path()));
        // It comes again every few seconds.
        if shell.troubles.set_local(trouble.clone())
            && let Some(trouble) = trouble
        {
            tracing::error!(code = trouble.code, "{trouble}");
        }
    } else if newer {
        // The node will refuse us, and rightly so. The operator must know.
        tracing::error!(
            node = %node.short(),
            seen = %hello.seen_epoch,
            ours = %shell.epoch,
            "a node has seen a newer coordinator: is this directory an old copy?"
        );
    }
    if newer {
        return Ok(None);
    }
    let session = shell.next_session();
    let connected = shell
        .connections
        .enter(node, session, key, hello.confinement)?;
    let (outbox, commands) = SessionOutbox::new(session);
    let profile = NodeProfile {
        node,
        session,
        kind,
        name: hello.name,
        engine: hello.engine,
        architecture: hello.architecture,
        capacity: hello.capacity,
        capabilities: hello.capabilities,
        location: hello.location,
    };
    let engine = profile.engine;
    let event = Event::NodeJoined {
        profile,
        held: hello.held,
    };
    Ok(Some(Greeted {
        connected,
        commands,
        join: Action::Join(event, outbox),
        engine,
    }))
}

fn check(hello: &Hello) -> Result<(), Refusal> {
    let name_ok = |text: &str| is_label(text, limits::NAME_BYTES_MAX);
    if hello.name.is_empty() || !name_ok(&hello.name) {
        return Err(protocol("the name in Hello is empty, too long or not text"));
    }
    if !name_ok(&hello.architecture) || !name_ok(&hello.location) {
        return Err(protocol("architecture or location in Hello is too long"));
    }
    let capabilities = &hello.capabilities;
    if capabilities.len() > limits::MANIFEST_LIST_MAX
        || !capabilities.iter().all(|name| name_ok(name))
        || !capabilities.is_sorted_by(|a, b| a < b)
    {
        return Err(protocol(
            "capabilities in Hello are too many or not sorted names",
        ));
    }
    Ok(())
}

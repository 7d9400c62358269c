//! Nodes without a sandbox: they speak the protocol over TLS with certificates of their own, and answer a
//! task with its input, or not at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hearth_identity::{
    COORDINATOR_NAME, NodeKey, RealmDir, encode_reports, sign_reports, verify_invitation,
};
use hearth_net::backoff::Backoff;
use hearth_net::socket::{PATH, Receiver, Sender, Socket, SocketLimits};
use hearth_net::tls::{Alpn, ClientTls, Endpoint, Identity, connect};
use hearth_wire::message::{
    Capacity, CoordinatorMessage, Hello, Input, InputSource, Lease, Load, NodeMessage, ReleaseRef,
    Report,
};
use hearth_wire::runner::Confinement;
use hearth_wire::{
    AttemptId, Body, Digest, EngineId, Epoch, Manifest, Outcome, Output, ReleaseId, Role,
    content_id, limits,
};
use tokio::sync::mpsc;

use super::{PATIENCE, now};

/// The key and the certificate of one node.
pub(crate) struct Member {
    key: NodeKey,
    tls: ClientTls,
}

/// Members of a realm, made by its owner without asking the coordinator.
pub(crate) fn members(realm: &Path, count: usize) -> Vec<Member> {
    let realm = RealmDir::open(realm).unwrap();
    let (authority, policy) = (realm.authority().unwrap(), realm.policy_state().unwrap());
    let token = realm.invite(Role::Node, 3_600, now()).unwrap();
    let invitation = verify_invitation(&token, None, now()).unwrap();
    let verifier = authority.ca().server_verifier();
    let member = |at| {
        let key = NodeKey::generate().unwrap();
        let (request, name) = (key.csr_pem().unwrap(), format!("puppet-{at}"));
        let granted = authority.grant(&invitation, &policy, &request, &name, now());
        let chain = vec![
            granted.unwrap().certificate.into(),
            authority.ca().certificate().clone(),
        ];
        let identity = Identity::new(chain, key.tls_key()).unwrap();
        let tls = ClientTls::new(Arc::clone(&verifier), Some(&identity)).unwrap();
        Member { key, tls }
    };
    (0..count).map(member).collect()
}

/// What puppets do with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The task's input, at once.
    Input,
    /// Nothing.
    Nothing,
}

/// What all puppets of a bench have done so far.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Connections that were welcomed.
    pub(crate) welcomes: AtomicU64,
    /// Connections on which a first lease came.
    pub(crate) leased: AtomicU64,
    /// Connections that ended or could not be made.
    pub(crate) losses: AtomicU64,
}

impl Deeds {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until a counter has reached `wanted`.
    pub(crate) async fn reach(counter: &AtomicU64, wanted: u64) {
        let begun = Instant::now();
        while counter.load(Ordering::Relaxed) < wanted {
            let seen = counter.load(Ordering::Relaxed);
            assert!(begun.elapsed() < PATIENCE, "{seen} of {wanted}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A lease that came, and when.
pub(crate) type Leased = (Instant, AttemptId, hearth_wire::TaskId);

/// One node.
pub(crate) struct Puppet {
    pub(crate) member: Arc<Member>,
    pub(crate) address: String,
    pub(crate) slots: u16,
    pub(crate) answer: Answer,
    pub(crate) deeds: Arc<Deeds>,
    /// Told of each lease.
    pub(crate) leases: Option<mpsc::UnboundedSender<Leased>>,
}

type To = Sender<NodeMessage>;
type From = Receiver<CoordinatorMessage>;

impl Puppet {
    /// Works until the future is dropped, connecting again as nodes do.
    pub(crate) async fn live(self) {
        let mut backoff = Backoff::reconnect();
        let mut seen = Epoch::default();
        let mut held = Vec::new();
        loop {
            if let Some((to, from)) = self.connect(&held, seen).await {
                self.work(to, from, &mut backoff, &mut seen, &mut held)
                    .await;
            }
            Deeds::count(&self.deeds.losses);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn connect(&self, held: &[AttemptId], seen: Epoch) -> Option<(To, From)> {
        let endpoint = Endpoint {
            addresses: vec![self.address.clone()],
            server_name: COORDINATOR_NAME.try_into().unwrap(),
        };
        let limit = Duration::from_millis(limits::ESTABLISH_MILLIS);
        let stream = connect(&endpoint, &self.member.tls, Alpn::Node, limit).await;
        let limits = SocketLimits::default();
        let (to, from) = Socket::connect(stream.ok()?, COORDINATOR_NAME, PATH, limits)
            .await
            .ok()?;
        let hello = Hello {
            name: "puppet".to_owned(),
            engine: engine(),
            architecture: std::env::consts::ARCH.to_owned(),
            capacity: Capacity {
                slots: self.slots,
                memory_bytes: 64 << 30,
            },
            capabilities: Vec::new(),
            location: String::new(),
            seen_epoch: seen,
            held: held.to_vec(),
            confinement: Confinement {
                landlock: true,
                ..Confinement::default()
            },
        };
        to.send(&NodeMessage::Hello(hello)).await.ok()?;
        Some((to, from))
    }

    async fn work(
        &self,
        to: To,
        mut from: From,
        backoff: &mut Backoff,
        seen: &mut Epoch,
        held: &mut Vec<AttemptId>,
    ) {
        // As nodes do: seldom while nothing is held.
        let mut beat = tokio::time::Instant::now();
        let mut known = BTreeMap::new();
        let (mut welcomed, mut leased) = (false, false);
        loop {
            let batch = tokio::select! {
                batch = from.recv() => batch,
                () = tokio::time::sleep_until(beat), if welcomed => {
                    let idle = held.is_empty();
                    let period = if idle { limits::IDLE_HEARTBEAT_MILLIS } else { limits::HEARTBEAT_MILLIS };
                    beat = tokio::time::Instant::now() + Duration::from_millis(period);
                    if to.try_send(&NodeMessage::Heartbeat(Load::default())).is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Ok(batch) = batch else { return };
            for message in batch {
                match message {
                    CoordinatorMessage::Welcome(welcome) => {
                        *seen = welcome.epoch;
                        welcomed = true;
                        backoff.reset();
                        Deeds::count(&self.deeds.welcomes);
                    }
                    CoordinatorMessage::Lease(leases) => {
                        if !std::mem::replace(&mut leased, true) {
                            Deeds::count(&self.deeds.leased);
                        }
                        // Whoever leases to an idle node listens more closely from now on.
                        let soon = Duration::from_millis(limits::HEARTBEAT_MILLIS);
                        beat = beat.min(tokio::time::Instant::now() + soon);
                        if !self.on_leases(&to, leases, &mut known, held).await {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    async fn on_leases(
        &self,
        to: &To,
        leases: Vec<Lease>,
        known: &mut BTreeMap<ReleaseId, Manifest>,
        held: &mut Vec<AttemptId>,
    ) -> bool {
        if let Some(leased) = &self.leases {
            let now = Instant::now();
            for lease in &leases {
                let _ = leased.send((now, lease.attempt, lease.task));
            }
        }
        if self.answer == Answer::Nothing {
            held.extend(leases.iter().map(|lease| lease.attempt));
            return true;
        }
        let reports: Vec<_> = leases
            .into_iter()
            .map(|lease| report(lease, known))
            .collect();
        for batch in reports.chunks(limits::REPORTS_PER_BATCH_MAX) {
            let signed = sign_reports(&self.member.key, encode_reports(batch)).unwrap();
            if to.send(&NodeMessage::Reports(signed)).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn engine() -> EngineId {
    EngineId {
        version: [48, 0, 8],
        semantics: Digest::of(b"puppet"),
    }
}

/// The input as the output.
fn report(lease: Lease, known: &mut BTreeMap<ReleaseId, Manifest>) -> Report {
    let id = match &lease.release {
        ReleaseRef::Full(release) => {
            known.insert(release.id(), release.parse_manifest().unwrap());
            release.id()
        }
        ReleaseRef::Known(id) => *id,
    };
    let Input {
        media_type,
        digest,
        source,
    } = lease.input;
    let InputSource::Inline(input) = source else {
        panic!("inputs of benches are small");
    };
    Report {
        attempt: lease.attempt,
        task: lease.task,
        content: content_id(&known[&id], &digest, &media_type, &lease.seed),
        engine: engine(),
        outcome: Outcome::Returned(Output {
            media_type,
            body: Body::Inline(input),
        }),
        fuel_used: 1,
        run_micros: 10,
        log_bytes_dropped: 0,
        chain: Vec::new(),
    }
}

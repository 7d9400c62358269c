//! Whose code and which nodes the realm trusts now, and what follows for work that was taken before.
//!
//! Trust is asked three times: when a release is published or a job submitted, when the policy is
//! replaced (and at the start), and once more when a lease leaves. A release that was taken back for
//! good, itself or by its author's revocation, is revoked in core, which ends its jobs. One that may
//! come back (its author was removed and can be added again, a date or a policy has passed and a clock
//! may be wrong) is held: its tasks wait, nothing of it is leased, and the jobs say why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::Event;
use hearth_identity::{PolicyState, ReleaseError, Trust, verify_release};
use hearth_wire::api::{ErrorBody, JobStatus};
use hearth_wire::message::Refusal;
use hearth_wire::record::Standing;
use hearth_wire::{AttemptId, JobId, NodeId, Release, ReleaseId, UnixSeconds};

use crate::api::Problem;
use crate::clock::unix_now;
use crate::shell::Shell;
use crate::views::{JobView, NodeView, State};

/// Verdicts that are remembered: as many as releases are kept decoded.
const VERDICTS_MAX: usize = 1_024;

/// The end of a policy is told this long before, because the key that signs the next one may lie in
/// a safe.
const POLICY_NOTICE_SECONDS: u64 = 30 * 24 * 3_600;
/// That of the revocations, which we sign ourselves at half of a week.
const REVOCATIONS_NOTICE_SECONDS: u64 = 2 * 24 * 3_600;

/// Whom the realm trusts now. Replaced as a whole when the root key says something new.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) policy: PolicyState,
    trust: Trust,
    /// Good verdicts and how long each holds: a signature costs more than a lease does.
    good: Mutex<BTreeMap<ReleaseId, UnixSeconds>>,
}

impl Trusted {
    /// The authors of the policy are pinned here, so that the owner's own machine goes on when the
    /// policy has ended.
    pub(crate) fn new(policy: PolicyState) -> Self {
        let authors = policy.policy().authors.clone();
        Self {
            trust: policy.trust().with_pinned(authors),
            policy,
            good: Mutex::default(),
        }
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether `found` says something that this does not. Never a step back.
    pub(crate) fn is_newer(&self, found: &PolicyState) -> bool {
        found.is_newer_than(&self.policy)
    }

    /// Whether a release may run now.
    pub(crate) fn judge(
        &self,
        id: ReleaseId,
        release: &Release,
        now: UnixSeconds,
    ) -> Result<(), ReleaseError> {
        if lock(&self.good).get(&id).is_some_and(|until| now <= *until) {
            return Ok(());
        }
        let verified = verify_release(release, &self.trust, now)?;
        let mut good = lock(&self.good);
        if good.len() >= VERDICTS_MAX {
            good.pop_first();
        }
        good.insert(id, verified.valid_until);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says in the log when what the realm says is about to end: volunteers stop then.
pub(crate) fn warn_of_end(state: &PolicyState, now: UnixSeconds) {
    let left = |until: UnixSeconds| until.0.saturating_sub(now.0);
    let policy = left(state.policy().expires);
    if policy < POLICY_NOTICE_SECONDS {
        tracing::warn!(
            hours_left = policy / 3_600,
            "the realm's policy ends soon, and volunteers stop then: any change that the root key \
             signs (hearth author add) makes a new one"
        );
    }
    let revocations = left(state.revocations().expires);
    if revocations < REVOCATIONS_NOTICE_SECONDS {
        tracing::warn!(
            hours_left = revocations / 3_600,
            "the list of revocations ends soon and was not renewed: look at the online key and the \
             disk of the realm's directory"
        );
    }
}

/// Releases of open jobs that are not trusted at the moment. At most as many as core knows.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeMap<ReleaseId, Hold>>);

#[derive(Debug)]
struct Hold {
    trouble: ErrorBody,
    /// Nodes that core gives no more of it while they are connected.
    declined: BTreeSet<NodeId>,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Why jobs of a release wait, if they do.
    fn trouble(&self, release: ReleaseId) -> Option<ErrorBody> {
        lock(&self.0).get(&release).map(|hold| hold.trouble.clone())
    }

    fn hold(&self, release: ReleaseId, error: ReleaseError) {
        let mut held = lock(&self.0);
        if !held.contains_key(&release) {
            tracing::warn!(release = %release.short(), %error, "jobs of a release wait");
        }
        let trouble = Problem::from(error).body().error;
        let hold = held.entry(release).or_insert_with(|| Hold {
            trouble: trouble.clone(),
            declined: BTreeSet::new(),
        });
        hold.trouble = trouble;
    }

    /// A node will get no more of a release while it is connected, whoever decided so.
    pub(crate) fn declined(&self, release: ReleaseId, node: NodeId) {
        if let Some(hold) = lock(&self.0).get_mut(&release) {
            hold.declined.insert(node);
        }
    }

    /// Lets go of a release, and gives the nodes that have declined it.
    fn release(&self, release: ReleaseId) -> BTreeSet<NodeId> {
        let hold = lock(&self.0).remove(&release);
        hold.map(|hold| hold.declined).unwrap_or_default()
    }

    fn ids(&self) -> BTreeSet<ReleaseId> {
        lock(&self.0).keys().copied().collect()
    }
}

/// Which releases are judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of all open jobs, and the lists of the policy.
    OpenJobs,
    /// Those that are held.
    Held,
}

/// What core and sessions must hear.
#[derive(Debug, Default)]
struct Judged {
    /// Releases that never run again.
    over: Vec<ReleaseId>,
    /// Nodes that the realm has shut out and core has not.
    shut_out: Vec<NodeId>,
    /// Nodes that declined what they might now have.
    rejoin: BTreeSet<NodeId>,
}

/// Whether what the realm says now can never become a yes again.
fn is_final(error: &ReleaseError) -> bool {
    matches!(
        error,
        ReleaseError::RevokedRelease { .. } | ReleaseError::RevokedAuthor { .. }
    )
}

impl Shell {
    /// Takes a newer policy: from now on it decides. Work that was taken before is judged again, and
    /// every session hears of it.
    pub(crate) async fn replace_policy(self: &Arc<Self>, policy: PolicyState) {
        {
            let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
            if !trusted.is_newer(&policy) {
                return;
            }
            *trusted = Trusted::new(policy);
        }
        self.judge(Scope::OpenJobs).await;
        self.policy_changes.send_modify(|count| *count += 1);
    }

    /// Judges releases again, and tells core and sessions what follows.
    pub(crate) async fn judge(self: &Arc<Self>, scope: Scope) {
        let judge = Arc::clone(self);
        // Releases are read from the disk.
        let judged = tokio::task::spawn_blocking(move || judge.judge_again(scope)).await;
        let Ok(judged) = judged else {
            return;
        };
        // A driver that has ended ends everything; and core refuses none of these two for a release
        // or a node that it knows.
        for release in judged.over {
            let revoke = |request| Event::ReleaseRevoked { request, release };
            let _ = self.driver.ask(revoke).await;
        }
        for node in judged.shut_out {
            let revoke = |request| Event::NodeRevoked { request, node };
            let _ = self.driver.ask(revoke).await;
        }
        for node in judged.rejoin {
            if let Some(connected) = self.connections.get(node) {
                connected.end(Refusal::Rejoin);
            }
        }
    }

    /// Blocks.
    fn judge_again(&self, scope: Scope) -> Judged {
        let mut judged = Judged::default();
        let held = self.held.ids();
        let mut open = BTreeSet::new();
        {
            let trusted = self.trusted();
            let state = self.views.read();
            let unended = state.jobs.values().filter(|job| job.ended.is_none());
            open.extend(unended.map(|job| job.spec.release));
            if scope == Scope::OpenJobs {
                let revocations = trusted.policy.revocations();
                let known = revocations.releases.iter().filter(|id| {
                    let view = state.releases.get(id);
                    view.is_some_and(|view| !view.revoked)
                });
                judged.over.extend(known);
                let nodes = revocations.nodes.iter().filter(|node| {
                    let view = state.nodes.get(**node);
                    view.is_some_and(|view| view.standing != Standing::Revoked)
                });
                judged.shut_out.extend(nodes);
            }
        }
        for id in held.difference(&open) {
            self.held.release(*id);
        }
        let scoped = match scope {
            Scope::OpenJobs => open,
            Scope::Held => held.intersection(&open).copied().collect(),
        };
        for id in scoped {
            let known = match self.releases.get(id) {
                Ok(known) => known,
                // Leases of it cannot be filled either.
                Err(error) => {
                    tracing::error!(release = %id.short(), %error, "a release cannot be judged");
                    continue;
                }
            };
            match self.may_run(id, &known.release) {
                Ok(()) => judged.rejoin.extend(self.held.release(id)),
                Err(error) if is_final(&error) => {
                    self.held.release(id);
                    if !judged.over.contains(&id) {
                        judged.over.push(id);
                    }
                }
                Err(_) => {}
            }
        }
        judged
    }

    /// Whether a release may run now. One that may again later is held from here on.
    pub(crate) fn may_run(&self, id: ReleaseId, release: &Release) -> Result<(), ReleaseError> {
        let verdict = self.trusted().judge(id, release, unix_now());
        if let Err(error) = &verdict
            && !is_final(error)
        {
            self.held.hold(id, error.clone());
        }
        verdict
    }

    /// A node's live attempts of releases that are held.
    pub(crate) fn held_attempts(&self, node: NodeId) -> Vec<AttemptId> {
        let held = self.held.ids();
        let state = self.views.read();
        let leased = state.leased_releases(node);
        leased
            .filter(|(_, release)| held.contains(release))
            .map(|(attempt, _)| attempt)
            .collect()
    }

    /// How a job stands, and what it waits for.
    pub(crate) fn job_status(&self, state: &State, id: JobId, view: &JobView) -> JobStatus {
        let mut status = state.job_status(id, view);
        let open = view.ended.is_none();
        if open {
            status.trouble = self.held.trouble(view.spec.release);
        }
        if open && status.trouble.is_none() {
            status.trouble = self.troubles.of_job(id, view.spec.release);
        }
        if open && status.trouble.is_none() && !state.nodes.iter().any(NodeView::may_work) {
            status.trouble = self.troubles.of_local();
        }
        if open && status.trouble.is_none() && self.room.is_full() {
            status.trouble = self.room.trouble();
        }
        status
    }
}

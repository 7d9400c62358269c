//! Invariants that one state can show. Those over time (nothing acknowledged is lost, one terminal
//! state, epochs rise) are the simulator's.

use crate::Coordinator;
use crate::attempt::{Attempt, AttemptState, NONE};
use crate::job::{Cell, Job, Lane, Phase, Wait};
use crate::node::Node;
use crate::queue::Queue;

/// An invariant does not hold: a defect of core.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} does not hold: {detail}")]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// Where.
    pub detail: String,
}

type Checked = Result<(), Violation>;

/// Fails with `invariant` unless `holds`.
fn want(holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        let detail = detail();
        Err(Violation { invariant, detail })
    }
}

pub(crate) fn check(core: &Coordinator) -> Checked {
    let mut open_tasks = 0;
    for job in core.jobs.values() {
        open_tasks += u64::from(job.count() - job.terminal());
        check_job(core, job)?;
    }
    want(
        open_tasks == core.open_tasks,
        "open tasks are counted",
        || format!("{open_tasks} and {}", core.open_tasks),
    )?;
    let held: u64 = core.owners.iter().map(|(_, owner)| owner.open_tasks).sum();
    want(held == open_tasks, "owners' open tasks are counted", || {
        format!("{held} and {open_tasks}")
    })?;
    for (index, node) in core.nodes.iter() {
        check_node(core, index, node)?;
    }
    for (slot, attempt) in core.attempts.iter() {
        check_attempt(core, slot, attempt)?;
    }
    check_groups(core)?;
    check_owners(core)?;
    check_limits(core)
}

fn check_owners(core: &Coordinator) -> Checked {
    let mut standing = 0;
    for (index, owner) in core.owners.iter() {
        for (class, queues) in owner.queues.iter().enumerate() {
            for (shape, jobs) in queues {
                standing += *jobs as usize;
                let queue = core.fits.shape(*shape).map(|shape| &shape.queues[class]);
                let finish = owner.finish[class];
                want(
                    queue.is_some_and(|queue| queue.holds_owner(index, finish, *jobs)),
                    "an owner stands in the queues that it names",
                    || format!("{:?} in {class} of {shape}", owner.key),
                )?;
            }
        }
    }
    let waiting = [0, 1, 2].map(|class| {
        let owners = core.owners.iter();
        owners
            .filter(|(_, owner)| !owner.queues[class].is_empty())
            .count() as u64
    });
    want(
        waiting == core.owners.waiting,
        "owners who wait are counted",
        || format!("{waiting:?} and {:?}", core.owners.waiting),
    )?;
    let queues = core.fits.shapes().flat_map(|(_, shape)| &shape.queues);
    let entries: usize = queues.map(Queue::len).sum();
    want(
        standing == entries,
        "queues hold jobs of owners only",
        || format!("{standing} and {entries}"),
    )
}

fn check_job(core: &Coordinator, job: &Job) -> Checked {
    let at = |index: usize| format!("{}/{index}", job.id);
    let mut sums = [0u32; 6];
    let (mut leased, mut runs, mut checks) = (0, 0, 0);
    for (index, cell) in job.cells.iter().enumerate() {
        sums[cell.phase as usize] += 1;
        leased += u32::from(cell.live > 0);
        runs += usize::from(cell.wait == Wait::Run);
        checks += usize::from(cell.wait == Wait::Check);
        check_cell(core, job, index, cell)?;
    }
    let counts = [
        job.count() - job.provisional - job.terminal(),
        job.provisional,
        job.settled,
        job.failed,
        job.cancelled,
        job.expired,
    ];
    want(
        sums == counts,
        "a job's counts are those of its tasks",
        || format!("{}: {sums:?} and {counts:?}", job.id),
    )?;
    want(
        leased == job.leased && runs == job.runs.len() && checks == job.checks.len(),
        "a job's lists are those of its tasks",
        || format!("{}: {leased} {runs} {checks}", job.id),
    )?;
    want(
        job.terminal() < job.count(),
        "an open job has an open task",
        || at(0),
    )?;
    want(
        core.releases.contains_key(&job.release),
        "a job's release is known",
        || at(0),
    )?;
    let now = core.now.max(core.clock);
    for lane in [Lane::Check, Lane::Run] {
        let (queued, ready) = (job.queued[lane as usize], job.is_ready(lane, now));
        want(
            !queued || ready,
            "a queued lane has something ready",
            || at(0),
        )?;
        // What becomes ready by time alone is queued by a timer, which may not have fired.
        let due = job.wake_at.is_some_and(|wake| wake <= now);
        want(
            queued || !ready || due,
            "what is ready is queued, or about to be",
            || at(0),
        )?;
        let entry = Coordinator::entry(job, lane);
        let shape = job.shape_of(lane).and_then(|shape| core.fits.shape(shape));
        let queue = shape.map(|shape| &shape.queues[job.priority as usize]);
        let in_place = match queued {
            true => queue.is_some_and(|queue| queue.holds(entry, job.deadline, job.finish)),
            false => queue.is_none_or(|queue| !queue.contains(entry)),
        };
        want(in_place, "a job stands in the queues that it names", || {
            at(0)
        })?;
    }
    let next = job.next_wake(now);
    let woken = next.is_none_or(|next| job.wake_at.is_some_and(|wake| wake <= next));
    want(woken, "what waits for a time is woken by then", || {
        format!("{}: {next:?}, {:?}", at(0), job.wake_at)
    })?;
    if let Some(wake) = job.wake_at {
        let timer = crate::time::Timer::Wake(job.id);
        want(
            core.timers.has(wake, timer),
            "a job that waits for a time has a timer",
            || at(0),
        )?;
    }
    Ok(())
}

fn check_cell(core: &Coordinator, job: &Job, index: usize, cell: &Cell) -> Checked {
    let at = || format!("{}/{index}: {cell:?}", job.id);
    let (mut live, mut results, mut others, mut length, mut kept) = (0, 0, 0, 0, 0);
    let mut nodes = Vec::new();
    for (_, attempt) in core.attempts.chain(cell.head) {
        length += 1;
        want(
            attempt.task.job == job.id && attempt.task.index.0 as usize == index,
            "a task's attempts are its own",
            at,
        )?;
        if attempt.state.is_live() {
            live += 1;
            want(!nodes.contains(&attempt.node), "a node has a task once", at)?;
            nodes.push(attempt.node);
        }
        results += u32::from(matches!(attempt.state, AttemptState::Result(_)));
        others += u32::from(matches!(attempt.state, AttemptState::Other(_)));
        kept += u32::from(attempt.checkpoint.is_some());
    }
    want(kept <= 1, "a task keeps one checkpoint", at)?;
    want(
        live == cell.live && live <= 2,
        "at most two attempts of a task are live",
        at,
    )?;
    want(length <= 512, "a task's history is bounded", at)?;
    want(
        results == u32::from(cell.phase == Phase::Provisional) && others <= results,
        "exactly a provisional task has a result",
        at,
    )?;
    want(
        cell.phase != Phase::Provisional || Coordinator::is_checked(job.trust),
        "only a checked job has provisional results",
        at,
    )?;
    if cell.phase.is_terminal() {
        let clear = live == 0 && cell.head == NONE && cell.wait == Wait::Nowhere;
        return want(
            clear,
            "a terminal task has neither attempts nor a place",
            at,
        );
    }
    let waits = cell.wait != Wait::Nowhere;
    want(
        waits != (live > 0),
        "an open task waits or has a live attempt",
        at,
    )?;
    let entry = (cell.ready_at, index as u32);
    let placed = match cell.wait {
        Wait::Nowhere => true,
        Wait::Fresh => cell.phase == Phase::Open && index >= job.fresh as usize,
        Wait::Run => cell.phase == Phase::Open && job.runs.contains(&entry),
        Wait::Check => cell.phase == Phase::Provisional && job.checks.contains(&entry),
    };
    want(placed, "a task waits where it says", at)?;
    want(
        (cell.wait == Wait::Fresh) == (index >= job.fresh as usize),
        "fresh tasks are those behind the cursor",
        at,
    )
}

fn check_node(core: &Coordinator, index: u32, node: &Node) -> Checked {
    let at = || node.id.to_string();
    let (mut paused, mut low) = (0, 0);
    for (place, slot) in node.live.iter().enumerate() {
        let attempt = core.attempts.at(*slot);
        let fits = attempt.is_some_and(|attempt| {
            attempt.node == index && attempt.in_node as usize == place && attempt.state.is_live()
        });
        want(fits, "a node's live attempts are its own", at)?;
        let is_paused = attempt.is_some_and(|a| matches!(a.state, AttemptState::Paused(_)));
        let job = attempt.and_then(|attempt| core.jobs.get(&attempt.task.job));
        let is_low = job.is_some_and(|job| job.priority == hearth_wire::Priority::Low);
        paused += u32::from(is_paused);
        low += u32::from(is_low && !is_paused);
    }
    want(
        (paused, low) == (node.paused, node.low),
        "a node's parked and low attempts are counted",
        at,
    )?;
    let named = core
        .attempts
        .iter()
        .filter(|(_, attempt)| attempt.node == index);
    want(
        named.count() == node.attempts as usize,
        "a node's attempts are counted",
        at,
    )?;
    want(
        node.live.len() <= hearth_wire::limits::LEASES_PER_NODE_MAX,
        "a node's leases are bounded",
        at,
    )?;
    if let Some(session) = node.session {
        let found = core.nodes.by_session(session) == Some(index);
        want(
            found && session <= core.last_session,
            "a session is its node's",
            at,
        )?;
    }
    for task in &node.unsettled {
        let provisional = core.cell(*task).map(|cell| cell.phase) == Some(Phase::Provisional);
        want(
            provisional,
            "a node's unsettled results are provisional",
            at,
        )?;
    }
    use hearth_wire::record::Standing;
    if matches!(node.standing, Standing::Quarantined | Standing::Revoked) {
        let clear = node.unsettled.is_empty() && node.live.is_empty();
        want(clear, "a node found wrong has nothing unsettled", at)?;
    }
    want(
        node.idle == node.idle_key(index) && node.in_gone == node.is_forgettable(),
        "a node stands in the right lists",
        at,
    )
}

fn check_attempt(core: &Coordinator, slot: u32, attempt: &Attempt) -> Checked {
    let at = || format!("{} {attempt:?}", attempt.id);
    let cell = core.cell(attempt.task);
    let known = cell.is_some_and(|cell| {
        let mut chain = core.attempts.chain(cell.head);
        chain.any(|(other, _)| other == slot)
    });
    want(known, "an attempt stands in its task's list", at)?;
    let job = core.jobs.get(&attempt.task.job);
    let listed = job.is_some_and(|job| job.live.get(attempt.in_job as usize) == Some(&slot));
    want(
        !attempt.state.is_live() || listed,
        "a live attempt stands in its job's list",
        at,
    )?;
    let timer = crate::time::Timer::Lease(attempt.id);
    let timed = |ends| core.timers.has(ends, timer);
    want(
        match attempt.ends() {
            Some(ends) => timed(ends) && (ends == attempt.deadline || !timed(attempt.deadline)),
            None => !timed(attempt.deadline),
        },
        "exactly a live attempt has a timer",
        at,
    )?;
    let node = core.nodes.at(attempt.node);
    let trusted = node.is_some_and(|node| node.kind.is_trusted());
    want(
        trusted || !attempt.is_check() || !attempt.state.is_live(),
        "checks run on trusted nodes",
        at,
    )
}

fn check_groups(core: &Coordinator) -> Checked {
    let mut total = 0;
    for (index, group) in core.fits.groups() {
        let members = core
            .nodes
            .iter()
            .filter(|(_, node)| node.group == Some(index));
        let (mut count, mut healthy, mut slots, mut idle) = (0, 0, 0, 0);
        for (node_index, node) in members {
            count += 1;
            if node.is_usable() {
                healthy += 1;
                slots += u64::from(node.capacity.slots);
            }
            if let Some(key) = node.idle {
                idle += 1;
                want(group.idle.contains(&key), "an idle node is listed", || {
                    node.id.to_string()
                })?;
            }
            let low = node.is_healthy() && node.low > 0;
            want(
                group.low.contains(&node_index) == low,
                "low work is listed",
                || node.id.to_string(),
            )?;
        }
        let fits = (group.members, group.healthy, group.slots) == (count, healthy, slots)
            && group.idle.len() == idle;
        want(fits, "a group's counts are those of its members", || {
            format!("{:?}", group.offer)
        })?;
        if group.offer.kind != hearth_wire::record::NodeKind::Local {
            total += slots;
        }
    }
    want(
        total == core.volunteer_slots,
        "volunteers' slots are counted",
        || format!("{total} and {}", core.volunteer_slots),
    )?;
    let ours = core
        .nodes
        .iter()
        .filter_map(|(_, node)| node.engine_of_ours());
    let mut engines = std::collections::BTreeMap::new();
    ours.for_each(|engine| *engines.entry(engine).or_default() += 1);
    want(
        engines == *core.fits.engines(),
        "our own nodes' engines are counted",
        || format!("{engines:?}"),
    )?;
    for (index, shape) in core.fits.shapes() {
        let groups = core.fits.groups();
        let fitting = groups.filter(|(_, group)| shape.needs.met_by(&group.offer, &engines));
        let mut fitting: Vec<_> = fitting.map(|(group, _)| group).collect();
        let mut listed = shape.groups.clone();
        fitting.sort_unstable();
        listed.sort_unstable();
        want(fitting == listed, "what fits is listed", || {
            format!("{:?}", shape.needs)
        })?;
        for (priority, queue) in shape.queues.iter().enumerate() {
            for entry in queue.entries() {
                let job = core.jobs.get(&entry.job);
                let stands = job.is_some_and(|job| {
                    job.queued[entry.lane as usize]
                        && job.shape_of(entry.lane) == Some(index)
                        && job.priority as usize == priority
                });
                want(stands, "a queue holds jobs that say so", || {
                    entry.job.to_string()
                })?;
            }
        }
    }
    Ok(())
}

fn check_limits(core: &Coordinator) -> Checked {
    use hearth_wire::limits;
    let within = core.jobs.len() <= limits::OPEN_JOBS_MAX
        && core.open_tasks <= limits::OPEN_TASKS_MAX
        && core.nodes.len() <= limits::NODES_MAX
        && core.attempts.len() <= crate::attempt::SLOTS_MAX
        && core.closed.len() == core.closed_order.len()
        && core.closed.len() <= core.config.closed_jobs_max
        && core.keys.len() <= core.jobs.len() + core.closed.len();
    want(within, "everything is within its limit", String::new)
}

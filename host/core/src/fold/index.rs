//! What is kept for speed and follows from the rest: queues, idle lists, timers.

use hearth_wire::JobId;
use hearth_wire::record::NodeKind;

use crate::Coordinator;
use crate::coordinator::ReleaseState;
use crate::job::{Job, Lane};
use crate::node::{ATTEMPT_MICROS_MIN, NodeIndex};
use crate::queue::{self, Entry, Finish};
use crate::time::Timer;

impl Coordinator {
    /// Brings the indices of everything that the record touched up to date.
    pub(super) fn refresh(&mut self) {
        let jobs = std::mem::take(&mut self.out.changed);
        jobs.iter().for_each(|job| self.requeue(*job));
        self.out.told.extend(jobs);
        let nodes = std::mem::take(&mut self.out.nodes);
        nodes.iter().for_each(|node| self.reindex(*node));
        self.out.freed.extend(nodes);
    }

    /// Puts a job into the queues of the lanes in which something may be leased now, takes it out of
    /// the others, and sets the timer for what may be leased later.
    pub(crate) fn requeue(&mut self, id: JobId) {
        let now = self.now.max(self.clock);
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let ready = [Lane::Check, Lane::Run].map(|lane| job.is_ready(lane, now));
        let (before, wake, was) = (job.queued, job.next_wake(now), job.wake_at);
        for lane in [Lane::Check, Lane::Run] {
            match (before[lane as usize], ready[lane as usize]) {
                (false, true) => self.enqueue(id, lane),
                (true, false) => self.dequeue(id, lane),
                _ => {}
            }
        }
        if wake != was {
            if let Some(at) = was {
                self.timers.clear(at, Timer::Wake(id));
            }
            if let Some(at) = wake {
                self.timers.set(at, Timer::Wake(id));
            }
            if let Some(job) = self.jobs.get_mut(&id) {
                job.wake_at = wake;
            }
        }
        // New work, or work that came back: nodes are looked for at the end of the step.
        if let Some(job) = self.jobs.get(&id) {
            for lane in [Lane::Check, Lane::Run] {
                if ready[lane as usize]
                    && !before[lane as usize]
                    && let Some(shape) = job.shape_of(lane)
                {
                    self.out.shapes.insert(shape);
                }
            }
        }
    }

    pub(super) fn leave_queues(&mut self, id: JobId) {
        for lane in [Lane::Check, Lane::Run] {
            let queued = self.jobs.get(&id).map(|job| job.queued[lane as usize]);
            if queued == Some(true) {
                self.dequeue(id, lane);
            }
        }
    }

    pub(crate) fn entry(job: &Job, lane: Lane) -> Entry {
        Entry {
            job: job.id,
            lane,
            owner: job.owner,
        }
    }

    fn enqueue(&mut self, id: JobId, lane: Lane) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(shape) = job.shape_of(lane) else {
            return;
        };
        let was_queued = job.queued.contains(&true);
        job.queued[lane as usize] = true;
        let class = job.priority as usize;
        let time = self.owners.time[class];
        let micros = attempt_micros(self.releases.get(&job.release));
        let turn = queue::turn(micros, job.waiting() + job.checks.len() as u64);
        let Some(owner) = self.owners.at_mut(job.owner) else {
            return;
        };
        // Who had nothing waiting has no claim on the time when it had not.
        if owner.queues[class].is_empty() {
            owner.finish[class] = owner.finish[class].max(time.saturating_add(turn));
        }
        if !was_queued {
            job.finish = job.finish.max(owner.time[class].saturating_add(turn));
        }
        let came = owner.queues[class].is_empty();
        *owner.queues[class].entry(shape).or_default() += 1;
        let finish = Finish::of(owner, job);
        self.owners.waiting[class] += u64::from(came);
        if let Some(shape) = self.fits.shape_mut(shape) {
            shape.queues[class].insert(Self::entry(job, lane), job.deadline, finish);
        }
    }

    fn dequeue(&mut self, id: JobId, lane: Lane) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(shape) = job.shape_of(lane) else {
            return;
        };
        job.queued[lane as usize] = false;
        let class = job.priority as usize;
        let Some(owner) = self.owners.at_mut(job.owner) else {
            return;
        };
        let finish = Finish::of(owner, job);
        if let Some(count) = owner.queues[class].get_mut(&shape) {
            *count -= 1;
            if *count == 0 {
                owner.queues[class].remove(&shape);
            }
        }
        let left = owner.queues[class].is_empty();
        self.owners.waiting[class] -= u64::from(left);
        if let Some(shape) = self.fits.shape_mut(shape) {
            shape.queues[class].remove(Self::entry(job, lane), job.deadline, finish);
        }
    }

    /// So many attempts of a job were leased: others of its owner, and other owners, go first for as long.
    pub(super) fn charge(&mut self, id: JobId, attempts: u64) {
        let (waiting, times) = (self.owners.waiting, self.owners.time);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let class = job.priority as usize;
        let Some(owner) = self.owners.at_mut(job.owner) else {
            return;
        };
        let micros = attempt_micros(self.releases.get(&job.release));
        let got = micros.saturating_mul(attempts);
        let before = Finish::of(owner, job);
        // What stood where no node could serve it has no claim, or not for long, on what others got meanwhile.
        let claim = times[class].saturating_sub(queue::BURST_MICROS);
        job.finish = before.job.max(owner.time[class]).saturating_add(got);
        owner.finish[class] = before.owner.max(claim).saturating_add(got);
        for lane in [Lane::Check, Lane::Run] {
            let shape = job.shape_of(lane).filter(|_| job.queued[lane as usize]);
            if let Some(shape) = shape.and_then(|shape| self.fits.shape_mut(shape)) {
                let (entry, after) = (Self::entry(job, lane), job.finish);
                shape.queues[class].reorder_job(entry, job.deadline, before.job, after);
            }
        }
        for shape in owner.queues[class].keys() {
            if let Some(shape) = self.fits.shape_mut(*shape) {
                let after = owner.finish[class];
                shape.queues[class].reorder(job.owner, before.owner, after);
            }
        }
        let jobs = owner.queues[class]
            .values()
            .map(|count| u64::from(*count))
            .sum();
        let sharers = waiting[class] + u64::from(owner.queues[class].is_empty());
        let longest = queue::turn(micros, u64::MAX);
        let turn = |finish: u64| finish.saturating_sub(longest)..=finish;
        let (among_jobs, among_owners) = if job.deadline.is_none() {
            (turn(before.job), turn(before.owner))
        } else {
            // It goes first wherever it stands, while its owner is not too far ahead.
            let least = before.owner.saturating_sub(queue::BURST_MICROS + longest);
            (0..=u64::MAX, least..=u64::MAX)
        };
        let time = &mut owner.time[class];
        *time = queue::advance(*time, got, jobs, among_jobs);
        let time = &mut self.owners.time[class];
        *time = queue::advance(*time, got, sharers, among_owners);
    }

    /// Puts a node where it belongs: idle, with low work, counted, forgettable.
    pub(crate) fn reindex(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        let idle = node.idle_key(index);
        let low = node.is_healthy() && node.low > 0;
        let counted = node.is_usable().then_some(node.capacity.slots);
        let gone = node.is_forgettable();
        let before = (node.idle, node.in_low, node.counted);
        if gone != node.in_gone {
            node.in_gone = gone;
            let entry = (node.left_at, index);
            if gone {
                self.nodes.gone.insert(entry);
            } else {
                self.nodes.gone.remove(&entry);
            }
        }
        if before == (idle, low, counted) {
            return;
        }
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        (node.idle, node.in_low, node.counted) = (idle, low, counted);
        let kind = node.kind;
        let Some(group) = node.group.and_then(|group| self.fits.group_mut(group)) else {
            return;
        };
        if before.0 != idle {
            if let Some(key) = before.0 {
                group.idle.remove(&key);
            }
            if let Some(key) = idle {
                group.idle.insert(key);
            }
        }
        if before.1 != low {
            if low {
                group.low.insert(index);
            } else {
                group.low.remove(&index);
            }
        }
        let (old, new) = (before.2, counted);
        group.healthy = group.healthy - u32::from(old.is_some()) + u32::from(new.is_some());
        let slots = |counted: Option<u16>| u64::from(counted.unwrap_or_default());
        group.slots = group.slots - slots(old) + slots(new);
        if kind != NodeKind::Local {
            self.volunteer_slots = self.volunteer_slots - slots(old) + slots(new);
        }
    }

    /// Takes a node out of its group's lists, before it changes kind or group.
    pub(super) fn unindex(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.at_mut(index) else {
            return;
        };
        let session = node.session.take();
        self.reindex(index);
        if let Some(node) = self.nodes.at_mut(index) {
            node.session = session;
        }
    }

    /// What a node's group can do has changed: all work that fits it is looked at again.
    pub(super) fn touch_shapes(&mut self, index: NodeIndex) {
        let group = self.nodes.at(index).and_then(|node| node.group);
        if let Some(group) = group.and_then(|group| self.fits.group(group)) {
            self.out.shapes.extend(group.shapes.iter().copied());
        }
    }
}

/// What an attempt of a release is expected to take, in microseconds.
fn attempt_micros(release: Option<&ReleaseState>) -> u64 {
    let measured = release.map_or(0, |release| release.micros);
    measured.max(ATTEMPT_MICROS_MIN)
}

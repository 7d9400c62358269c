//! The order in which jobs are served: earliest deadline first, then fair shares of owners, and of each
//! owner's jobs.
//!
//! Shares are those of fair queueing by virtual finish times (Bennett and Zhang, WF2Q+, IEEE/ACM Transactions
//! on Networking 5(5), 1997): whoever's next turn would end first goes first, if everybody who waits were
//! served at once and alike. A turn is a chunk of tasks, or all that wait if they are fewer, or what begins of
//! a long task. So a small job waits neither for a large one of the same owner nor for hundreds of them, and
//! none can be kept from going on. What was leased is charged in full, when it is leased.
//!
//! Order is no part of the state that is hashed: it follows from the records, but a coordinator that
//! replayed them may serve equals in another order than the one that wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use hearth_wire::{JobId, KeyId, Millis, Priority};
use serde::{Deserialize, Serialize};

use crate::job::{Job, Lane};

/// Position of an [`Owner`].
pub(crate) type OwnerIndex = u32;

/// How far an owner may be ahead of the one whose turn it is while its deadlines still go first, and behind the
/// virtual time with a claim to make up for it, in microseconds: deadlines order work, they do not buy a larger
/// share; and what could not be served for long does not take all when it can be.
pub(crate) const BURST_MICROS: u64 = 60_000_000;
/// Jobs looked at for one node, and those looked at once more when it may have nothing of the first
/// ones, because it declined their releases or failed their tasks. Beyond these the rest waits for
/// another node.
pub(crate) const CANDIDATES_MAX: usize = 16;
pub(crate) const CANDIDATES_MORE_MAX: usize = 1_024;

/// Tasks of one job that a node gets before the order of jobs is looked at again.
pub(crate) const TURN_TASKS: u64 = 64;
/// The compute by which the ends of turns are compared, in microseconds. What is behind that of a chunk or of a
/// long task is charged, but delays no turn: else small work that keeps coming would delay it for ever.
const TURN_MICROS: u64 = 200_000;
/// Debts of owners without open jobs that are remembered.
const DEBTS_MAX: usize = 4_096;

/// Compute of the next turn of a job of which so many tasks of so many microseconds each wait.
pub(crate) fn turn(micros: u64, waiting: u64) -> u64 {
    let tasks = waiting.clamp(1, TURN_TASKS);
    micros.saturating_mul(tasks).min(TURN_MICROS)
}

/// The virtual time behind a turn in which so much was `got` of all that `sharers` share alike. It never goes
/// back, and keeps within `turn`: nobody's turn begins later than now, and none that was to end before now is
/// still to come.
pub(crate) fn advance(time: u64, got: u64, sharers: u64, turn: RangeInclusive<u64>) -> u64 {
    let next = time.saturating_add(got.div_ceil(sharers.max(1)));
    next.clamp(*turn.start(), *turn.end()).max(time)
}

/// Somebody who submits jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) key: KeyId,
    pub(crate) open_tasks: u64,
    pub(crate) open_jobs: u32,
    /// Virtual finish times of its next turn in each priority, in microseconds: it is taken to be as long as
    /// the one before, until it begins.
    pub(crate) finish: [u64; 3],
    /// The virtual time in each priority that its jobs share.
    pub(crate) time: [u64; 3],
    /// Queues of each priority in which a job of this owner stands.
    pub(crate) queues: [BTreeMap<u16, u32>; 3],
}

/// Everybody who has open jobs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Owners {
    list: Vec<Option<Owner>>,
    by_key: BTreeMap<KeyId, OwnerIndex>,
    free: Vec<OwnerIndex>,
    /// The virtual time in each priority that owners share, and how many have a job in a queue of it.
    pub(crate) time: [u64; 3],
    pub(crate) waiting: [u64; 3],
    /// Finish times of owners who left ahead of it: who submits again after each result would otherwise get
    /// every time what others wait for.
    debts: BTreeMap<KeyId, [u64; 3]>,
    /// How many of them there are when those that time has caught up with are removed.
    debts_full: usize,
}

impl Owners {
    pub(crate) fn at(&self, index: OwnerIndex) -> Option<&Owner> {
        self.list.get(index as usize)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: OwnerIndex) -> Option<&mut Owner> {
        self.list.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn find(&self, key: &KeyId) -> Option<&Owner> {
        self.at(*self.by_key.get(key)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerIndex, &Owner)> {
        let indices = self.by_key.values();
        indices.filter_map(|index| Some((*index, self.at(*index)?)))
    }

    /// The owner of this key, with one more job of `tasks` tasks.
    pub(crate) fn join(&mut self, key: KeyId, tasks: u64) -> OwnerIndex {
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => {
                let owner = Owner {
                    key,
                    open_tasks: 0,
                    open_jobs: 0,
                    finish: self.debts.remove(&key).unwrap_or(self.time),
                    time: [0; 3],
                    queues: Default::default(),
                };
                let index = match self.free.pop() {
                    Some(index) => {
                        self.list[index as usize] = Some(owner);
                        index
                    }
                    None => {
                        self.list.push(Some(owner));
                        (self.list.len() - 1) as OwnerIndex
                    }
                };
                self.by_key.insert(key, index);
                index
            }
        };
        if let Some(owner) = self.at_mut(index) {
            owner.open_tasks += tasks;
            owner.open_jobs += 1;
        }
        index
    }

    /// One job fewer.
    pub(crate) fn leave(&mut self, index: OwnerIndex) {
        let Some(owner) = self.at_mut(index) else {
            return;
        };
        owner.open_jobs -= 1;
        if owner.open_jobs == 0 {
            let (key, finish) = (owner.key, owner.finish);
            self.by_key.remove(&key);
            self.list[index as usize] = None;
            self.free.push(index);
            self.remember(key, finish);
        }
    }

    /// Keeps what an owner is ahead by. All are gone through when there are twice as many as were left then.
    fn remember(&mut self, key: KeyId, finish: [u64; 3]) {
        let time = self.time;
        let owes = |finish: &[u64; 3]| finish.iter().zip(time).any(|(at, now)| *at > now);
        if !owes(&finish) {
            return;
        }
        // No more than a minute: of what was leased, much may never have run.
        let mut debt = finish;
        for (at, now) in debt.iter_mut().zip(time) {
            *at = (*at).min(now.saturating_add(BURST_MICROS));
        }
        self.debts.insert(key, debt);
        if self.debts.len() > self.debts_full {
            self.debts.retain(|_, finish| owes(finish));
            if self.debts.len() > DEBTS_MAX {
                self.debts.clear();
            }
            self.debts_full = self.debts.len() * 2;
        }
    }
}

/// Jobs of one shape and one priority that have something to lease.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// Jobs with a deadline, the earliest first.
    deadlines: BTreeSet<(Millis, Entry)>,
    /// Owners by the end of their next turn, then their jobs by deadline, the end of their next turn, and age.
    order: BTreeSet<(u64, OwnerIndex)>,
    jobs: BTreeMap<OwnerIndex, BTreeSet<(Millis, u64, Entry)>>,
    /// The oldest job, for aging: numbers rise with time.
    oldest: BTreeSet<Entry>,
}

/// Virtual finish times of the next turn of a job among its owner's, and of its owner among others, in
/// microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finish {
    pub(crate) owner: u64,
    pub(crate) job: u64,
}

impl Finish {
    pub(crate) fn of(owner: &Owner, job: &Job) -> Self {
        Self {
            owner: owner.finish[job.priority as usize],
            job: job.finish,
        }
    }
}

/// A job in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) job: JobId,
    pub(crate) lane: Lane,
    pub(crate) owner: OwnerIndex,
}

/// A job that might be served next, with what compares it to those of other shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// False, and so first, for one whose deadline counts.
    pub(crate) no_deadline: bool,
    /// What compares those whose deadlines count: the deadline, then the owner's finish. For others it
    /// is the other way round, so that a deadline that does not count buys nothing from other owners.
    pub(crate) keys: [u64; 2],
    /// What compares jobs of one owner that are alike so far.
    pub(crate) finish: u64,
    pub(crate) entry: Entry,
}

/// A job without a deadline sorts behind all others.
pub(crate) const NO_DEADLINE: Millis = Millis(u64::MAX);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.oldest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.is_empty()
    }

    pub(crate) fn insert(&mut self, entry: Entry, deadline: Option<Millis>, finish: Finish) {
        if let Some(at) = deadline {
            self.deadlines.insert((at, entry));
        }
        self.oldest.insert(entry);
        let jobs = self.jobs.entry(entry.owner).or_default();
        jobs.insert((deadline.unwrap_or(NO_DEADLINE), finish.job, entry));
        self.order.insert((finish.owner, entry.owner));
    }

    pub(crate) fn remove(&mut self, entry: Entry, deadline: Option<Millis>, finish: Finish) {
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, entry));
        }
        self.oldest.remove(&entry);
        if let Some(jobs) = self.jobs.get_mut(&entry.owner) {
            jobs.remove(&(deadline.unwrap_or(NO_DEADLINE), finish.job, entry));
            if jobs.is_empty() {
                self.jobs.remove(&entry.owner);
                self.order.remove(&(finish.owner, entry.owner));
            }
        }
    }

    /// The turn of an owner of a job here ends later.
    pub(crate) fn reorder(&mut self, owner: OwnerIndex, before: u64, after: u64) {
        if self.order.remove(&(before, owner)) {
            self.order.insert((after, owner));
        }
    }

    /// The turn of a job here ends later.
    pub(crate) fn reorder_job(
        &mut self,
        entry: Entry,
        deadline: Option<Millis>,
        before: u64,
        after: u64,
    ) {
        let deadline = deadline.unwrap_or(NO_DEADLINE);
        if let Some(jobs) = self.jobs.get_mut(&entry.owner)
            && jobs.remove(&(deadline, before, entry))
        {
            jobs.insert((deadline, after, entry));
        }
    }

    pub(crate) fn oldest(&self) -> Option<JobId> {
        self.oldest.first().map(|entry| entry.job)
    }

    /// The first finish of the owners that stand here.
    pub(crate) fn least(&self) -> Option<u64> {
        self.order.first().map(|(finish, _)| *finish)
    }

    /// Jobs in the order in which they should be served, at most `most` of each kind. `least` is the
    /// [`Queue::least`] of all queues that compete.
    pub(crate) fn candidates<'a>(
        &'a self,
        owners: &'a Owners,
        priority: Priority,
        least: u64,
        most: usize,
    ) -> impl Iterator<Item = Candidate> + 'a {
        let finish = move |owner| owners.at(owner).map_or(0, |o| o.finish[priority as usize]);
        let urgent = self.deadlines.iter().take(most);
        let urgent = urgent.filter_map(move |(deadline, entry)| {
            let finish = finish(entry.owner);
            (finish <= least.saturating_add(BURST_MICROS)).then_some(Candidate {
                no_deadline: false,
                keys: [deadline.0, finish],
                finish: 0,
                entry: *entry,
            })
        });
        let fair = self.order.iter().flat_map(move |(finish, owner)| {
            let jobs = self.jobs.get(owner).into_iter().flatten();
            jobs.map(move |(deadline, job, entry)| Candidate {
                no_deadline: true,
                keys: [*finish, deadline.0],
                finish: *job,
                entry: *entry,
            })
        });
        urgent.chain(fair.take(most))
    }

    pub(crate) fn contains(&self, entry: Entry) -> bool {
        self.oldest.contains(&entry)
    }

    /// Whether it holds a job where this says that it stands, for checks.
    pub(crate) fn holds(&self, entry: Entry, deadline: Option<Millis>, finish: u64) -> bool {
        let key = (deadline.unwrap_or(NO_DEADLINE), finish, entry);
        let jobs = self.jobs.get(&entry.owner);
        self.contains(entry) && jobs.is_some_and(|jobs| jobs.contains(&key))
    }

    /// Whether so many jobs of an owner stand here, and it where this says, for checks.
    pub(crate) fn holds_owner(&self, owner: OwnerIndex, finish: u64, jobs: u32) -> bool {
        let standing = self.jobs.get(&owner).map_or(0, BTreeSet::len);
        standing == jobs as usize
            && self.order.contains(&(finish, owner))
            && self.order.len() == self.jobs.len()
    }

    /// Every entry, for checks.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.oldest.iter().copied()
    }
}

/// Which priority goes first at this turn. High goes first in five of eight turns whatever waits
/// (its reserved share) and in all of them unless something less urgent has aged.
pub(crate) fn order_of_turn(turn: u64, medium_aged: bool, low_aged: bool) -> [Priority; 3] {
    match turn % 8 {
        1 | 5 if medium_aged => [Priority::Medium, Priority::High, Priority::Low],
        3 if low_aged => [Priority::Low, Priority::High, Priority::Medium],
        _ => Priority::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(job: u64, owner: OwnerIndex) -> Entry {
        Entry {
            job: JobId(job),
            lane: Lane::Run,
            owner,
        }
    }

    fn finish(owner: u64) -> Finish {
        Finish { owner, job: 0 }
    }

    fn owners(count: u8) -> Owners {
        let mut owners = Owners::default();
        for n in 0..count {
            owners.join(KeyId(hearth_wire::Digest::new([n; 32])), 1);
        }
        owners
    }

    fn order(queue: &Queue, owners: &Owners) -> Vec<u64> {
        let mut seen = Vec::new();
        for candidate in queue.candidates(owners, Priority::Medium, queue.least().unwrap_or(0), 16)
        {
            if !seen.contains(&candidate.entry.job.0) {
                seen.push(candidate.entry.job.0);
            }
        }
        seen
    }

    #[test]
    fn deadlines_first_then_the_owner_whose_turn_ends_first() {
        let mut owners = owners(3);
        let mut queue = Queue::default();
        queue.insert(entry(1, 0), None, finish(0));
        queue.insert(entry(2, 1), Some(Millis(500)), finish(0));
        queue.insert(entry(3, 2), Some(Millis(100)), finish(0));
        assert_eq!(order(&queue, &owners), [3, 2, 1]);

        // The owner of the earliest deadline is far ahead of everybody else: it waits its turn.
        owners.at_mut(2).unwrap().finish[Priority::Medium as usize] = BURST_MICROS + 1;
        queue.reorder(2, 0, BURST_MICROS + 1);
        assert_eq!(order(&queue, &owners), [2, 1, 3]);

        queue.remove(entry(2, 1), Some(Millis(500)), finish(0));
        assert_eq!(order(&queue, &owners), [1, 3]);
        assert_eq!(queue.oldest(), Some(JobId(1)));
        queue.remove(entry(1, 0), None, finish(0));
        queue.remove(entry(3, 2), Some(Millis(100)), finish(BURST_MICROS + 1));
        assert!(queue.is_empty());
        assert_eq!(
            queue.candidates(&owners, Priority::Medium, 0, 16).count(),
            0
        );
    }

    #[test]
    fn a_low_job_that_waited_gets_a_share_and_high_keeps_its_own() {
        let first = |turn, medium, low| order_of_turn(turn, medium, low)[0];
        assert!((0..8).all(|turn| first(turn, false, false) == Priority::High));
        let turns: Vec<_> = (0..8).map(|turn| first(turn, true, true)).collect();
        let share = |priority| turns.iter().filter(|p| **p == priority).count();
        assert_eq!(share(Priority::High), 5);
        assert_eq!(share(Priority::Medium), 2);
        assert_eq!(share(Priority::Low), 1);
    }

    #[test]
    fn an_owner_without_jobs_is_forgotten_and_comes_back_now() {
        let mut owners = owners(1);
        owners.leave(0);
        assert_eq!(owners.iter().count(), 0);
        owners.time = [7, 8, 9];
        let index = owners.join(KeyId::default(), 3);
        assert_eq!(index, 0);
        assert_eq!(owners.at(0).unwrap().finish, [7, 8, 9]);
        assert_eq!(owners.find(&KeyId::default()).unwrap().open_tasks, 3);
    }
}

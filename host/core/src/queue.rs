//! The order in which jobs are served: earliest deadline first, then fair shares of owners, and of each
//! owner's jobs.
//!
//! Shares are those of start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): everybody counts what
//! it got, whoever got least goes first, and who comes starts where the one served last stood. So a small
//! job does not wait for a large one of the same owner, and none can be kept from going on.
//!
//! Order is no part of the state that is hashed: it follows from the records, but a coordinator that
//! replayed them may serve equals in another order than the one that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use hearth_wire::{JobId, KeyId, Millis, Priority};
use serde::{Deserialize, Serialize};

use crate::job::{Job, Lane};

/// Position of an [`Owner`].
pub(crate) type OwnerIndex = u32;

/// How far an owner's compute may run ahead of the least served owner's while its deadlines still go
/// first, in microseconds: deadlines order work, they do not buy a larger share.
const DEADLINE_BURST_MICROS: u64 = 60_000_000;
/// Jobs looked at for one node, and those looked at once more when it may have nothing of the first
/// ones, because it declined their releases or failed their tasks. Beyond these the rest waits for
/// another node.
pub(crate) const CANDIDATES_MAX: usize = 16;
pub(crate) const CANDIDATES_MORE_MAX: usize = 1_024;

/// Somebody who submits jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) key: KeyId,
    pub(crate) open_tasks: u64,
    pub(crate) open_jobs: u32,
    /// Compute given so far in each priority, in microseconds; starts at the least of those waiting.
    pub(crate) served: [u64; 3],
    /// What its job served last had got before that, for each priority: where its new jobs start.
    pub(crate) floor: [u64; 3],
    /// Queues of each priority in which a job of this owner stands.
    pub(crate) queues: [BTreeMap<u16, u32>; 3],
}

/// Everybody who has open jobs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Owners {
    list: Vec<Option<Owner>>,
    by_key: BTreeMap<KeyId, OwnerIndex>,
    free: Vec<OwnerIndex>,
    /// What the owner served last had got before that, for each priority: where newcomers start.
    pub(crate) floor: [u64; 3],
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.by_key.values().filter_map(|index| self.at(*index))
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
                    served: self.floor,
                    floor: [0; 3],
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
            let key = owner.key;
            self.by_key.remove(&key);
            self.list[index as usize] = None;
            self.free.push(index);
        }
    }
}

/// Jobs of one shape and one priority that have something to lease.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// Jobs with a deadline, the earliest first.
    deadlines: BTreeSet<(Millis, Entry)>,
    /// Owners by what they got, then their jobs by deadline, what they got, and age.
    order: BTreeSet<(u64, OwnerIndex)>,
    jobs: BTreeMap<OwnerIndex, BTreeSet<(Millis, u64, Entry)>>,
    /// The oldest job, for aging: numbers rise with time.
    oldest: BTreeSet<Entry>,
}

/// What a job and its owner got so far, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) owner: u64,
    pub(crate) job: u64,
}

impl Served {
    pub(crate) fn of(owner: &Owner, job: &Job) -> Self {
        Self {
            owner: owner.served[job.priority as usize],
            job: job.served,
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
    /// What compares those whose deadlines count: the deadline, then what the owner got. For others it
    /// is the other way round, so that a deadline that does not count buys nothing from other owners.
    pub(crate) keys: [u64; 2],
    /// What compares jobs of one owner that are alike so far: what each got.
    pub(crate) served: u64,
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

    pub(crate) fn insert(&mut self, entry: Entry, deadline: Option<Millis>, served: Served) {
        if let Some(at) = deadline {
            self.deadlines.insert((at, entry));
        }
        self.oldest.insert(entry);
        let jobs = self.jobs.entry(entry.owner).or_default();
        jobs.insert((deadline.unwrap_or(NO_DEADLINE), served.job, entry));
        self.order.insert((served.owner, entry.owner));
    }

    pub(crate) fn remove(&mut self, entry: Entry, deadline: Option<Millis>, served: Served) {
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, entry));
        }
        self.oldest.remove(&entry);
        if let Some(jobs) = self.jobs.get_mut(&entry.owner) {
            jobs.remove(&(deadline.unwrap_or(NO_DEADLINE), served.job, entry));
            if jobs.is_empty() {
                self.jobs.remove(&entry.owner);
                self.order.remove(&(served.owner, entry.owner));
            }
        }
    }

    /// An owner of a job here got more.
    pub(crate) fn reorder(&mut self, owner: OwnerIndex, before: u64, after: u64) {
        if self.order.remove(&(before, owner)) {
            self.order.insert((after, owner));
        }
    }

    /// A job here got more.
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

    /// What the owner got who got least of those that stand here.
    pub(crate) fn least(&self) -> Option<u64> {
        self.order.first().map(|(served, _)| *served)
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
        let served = move |owner| owners.at(owner).map_or(0, |o| o.served[priority as usize]);
        let urgent = self.deadlines.iter().take(most);
        let urgent = urgent.filter_map(move |(deadline, entry)| {
            let served = served(entry.owner);
            (served <= least.saturating_add(DEADLINE_BURST_MICROS)).then_some(Candidate {
                no_deadline: false,
                keys: [deadline.0, served],
                served: 0,
                entry: *entry,
            })
        });
        let fair = self.order.iter().flat_map(move |(served, owner)| {
            let jobs = self.jobs.get(owner).into_iter().flatten();
            jobs.map(move |(deadline, job, entry)| Candidate {
                no_deadline: true,
                keys: [*served, deadline.0],
                served: *job,
                entry: *entry,
            })
        });
        urgent.chain(fair.take(most))
    }

    pub(crate) fn contains(&self, entry: Entry) -> bool {
        self.oldest.contains(&entry)
    }

    /// Whether it holds a job where this says that it stands, for checks.
    pub(crate) fn holds(&self, entry: Entry, deadline: Option<Millis>, served: u64) -> bool {
        let key = (deadline.unwrap_or(NO_DEADLINE), served, entry);
        let jobs = self.jobs.get(&entry.owner);
        self.contains(entry) && jobs.is_some_and(|jobs| jobs.contains(&key))
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

    fn got(owner: u64) -> Served {
        Served { owner, job: 0 }
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
    fn deadlines_first_then_the_owner_who_got_least() {
        let mut owners = owners(3);
        let mut queue = Queue::default();
        queue.insert(entry(1, 0), None, got(0));
        queue.insert(entry(2, 1), Some(Millis(500)), got(0));
        queue.insert(entry(3, 2), Some(Millis(100)), got(0));
        assert_eq!(order(&queue, &owners), [3, 2, 1]);

        // The owner of the earliest deadline has had far more than anybody else: it waits its turn.
        owners.at_mut(2).unwrap().served[Priority::Medium as usize] = DEADLINE_BURST_MICROS + 1;
        queue.reorder(2, 0, DEADLINE_BURST_MICROS + 1);
        assert_eq!(order(&queue, &owners), [2, 1, 3]);

        queue.remove(entry(2, 1), Some(Millis(500)), got(0));
        assert_eq!(order(&queue, &owners), [1, 3]);
        assert_eq!(queue.oldest(), Some(JobId(1)));
        queue.remove(entry(1, 0), None, got(0));
        queue.remove(
            entry(3, 2),
            Some(Millis(100)),
            got(DEADLINE_BURST_MICROS + 1),
        );
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
    fn an_owner_without_jobs_is_forgotten_and_comes_back_at_the_floor() {
        let mut owners = owners(1);
        owners.leave(0);
        assert_eq!(owners.iter().count(), 0);
        owners.floor = [7, 8, 9];
        let index = owners.join(KeyId::default(), 3);
        assert_eq!(index, 0);
        assert_eq!(owners.at(0).unwrap().served, [7, 8, 9]);
        assert_eq!(owners.find(&KeyId::default()).unwrap().open_tasks, 3);
    }
}

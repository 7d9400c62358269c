//! What was written, and what of it was promised.

use std::collections::{BTreeMap, BTreeSet};

use hearth_store::{Snapshot, Start};
use hearth_wire::{Digest, Seq};

use super::Broken;
use crate::rng::mix;

/// Everything that somebody outside of the store knows.
#[derive(Debug, Clone)]
pub(super) struct Model {
    work: u64,
    /// Records that may be in the journal, in order: those that the newest start found, and what was
    /// appended since. No two are alike, over all lives.
    pub(super) written: Vec<Vec<u8>>,
    /// What the records up to each of them make.
    states: Vec<Digest>,
    made: u64,
    /// How many of them somebody was told of.
    pub(super) acknowledged: usize,
    /// Snapshots that must be there, and those that may be.
    pub(super) snapshots: BTreeSet<u64>,
    pub(super) perhaps: BTreeSet<u64>,
    /// Blobs that must be there.
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Model {
    pub(super) fn new(work: u64) -> Self {
        Self {
            work,
            written: Vec::new(),
            states: Vec::new(),
            made: 0,
            acknowledged: 0,
            snapshots: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            blobs: BTreeMap::new(),
        }
    }

    /// A record that never was: mostly short, without a zero in it.
    pub(super) fn record(&mut self) -> Vec<u8> {
        self.made += 1;
        let luck = mix(self.work ^ self.made << 20);
        let len = match luck % 16 {
            0 => 700 + luck as usize / 16 % 900,
            _ => luck as usize / 16 % 150,
        };
        let mut bytes = format!("record {} ", self.made).into_bytes();
        bytes.extend((0..len as u64).map(|at| mix(luck ^ at) as u8 | 1));
        bytes
    }

    /// The bytes of the blob with this number.
    pub(super) fn blob(&self, number: u64) -> Vec<u8> {
        let luck = mix(self.work ^ number << 40);
        let len = 40 + luck % 2_500;
        (0..len).map(|at| mix(luck ^ at) as u8).collect()
    }

    /// Records are about to be given to a journal, and may be written in part.
    pub(super) fn append(&mut self, records: &[Vec<u8>]) {
        for record in records {
            let before = self.states.last().copied().unwrap_or_default();
            let state = Digest::of(&[before.as_bytes(), &record[..]].concat());
            self.states.push(state);
            self.written.push(record.clone());
        }
    }

    /// The records behind `len` are lost.
    pub(super) fn truncate(&mut self, len: usize) {
        self.written.truncate(len);
        self.states.truncate(len);
    }

    /// What the records up to `seq` make: each of them changes all of it.
    fn state(&self, seq: u64) -> Vec<u8> {
        let state = self.states[seq as usize - 1];
        let len = mix(seq) as usize % 1_500;
        let mut body = state.as_bytes().to_vec();
        body.resize(body.len() + len, seq as u8);
        body
    }

    /// The snapshot at a point of the journal.
    pub(super) fn snapshot(&self, start: Start) -> Snapshot {
        let body = self.state(start.seq.0);
        Snapshot { start, body }
    }

    /// A snapshot holds what the records up to it make.
    pub(super) fn check_snapshot(&self, found: &Snapshot) -> Result<(), Broken> {
        let Seq(seq) = found.start.seq;
        if seq as usize > self.written.len() || found.body != self.state(seq) {
            let text = format!("the snapshot up to {seq} holds another state");
            return Err(Broken::Snapshot(text));
        }
        Ok(())
    }

    /// A record that a start or a reader shows.
    pub(super) fn check_record(&self, seq: Seq, bytes: &[u8]) -> Result<(), Broken> {
        match self.written.get(seq.0 as usize - 1) {
            Some(written) if written == bytes => Ok(()),
            Some(_) => Err(Broken::Record(format!("record {seq} is another one"))),
            None => Err(Broken::Record(format!("record {seq} was never written"))),
        }
    }

    /// A start found records up to `seq`: they are durable from here on, and nothing else was written.
    pub(super) fn found(&mut self, seq: Seq) -> Result<(), Broken> {
        let found = seq.0 as usize;
        if found < self.acknowledged {
            let text = format!("{} were acknowledged, {found} are there", self.acknowledged);
            return Err(Broken::Record(text));
        }
        if found > self.written.len() {
            let text = format!("{} were written, {found} are there", self.written.len());
            return Err(Broken::Record(text));
        }
        self.truncate(found);
        self.acknowledged = found;
        Ok(())
    }

    /// A snapshot is about to be written that was made from the one up to `from`.
    pub(super) fn snapshot_begins(&mut self, seq: u64, from: u64) {
        let others = std::mem::take(&mut self.snapshots);
        self.snapshots.extend(others.get(&from));
        self.perhaps.extend(others);
        self.perhaps.insert(seq);
    }

    /// It was written.
    pub(super) fn snapshot_stands(&mut self, seq: u64, from: u64) {
        self.perhaps.clear();
        self.snapshots = BTreeSet::from([seq]);
        if from > 0 {
            self.snapshots.insert(from);
        }
    }
}

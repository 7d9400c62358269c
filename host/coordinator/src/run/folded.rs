//! What is folded from the journal, and how it gets into a snapshot and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_core::{Config, Coordinator, Effect, RestoreError};
use hearth_identity::Redemptions;
use hearth_store::{Entry, Reader};
use hearth_wire::codec::{self, DecodeError};
use hearth_wire::record::{Fact, Record};
use hearth_wire::{NodeId, NodePublicKey, Seq};
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;
use crate::fact::ShellFact;
use crate::nodes::remember_key;
use crate::tables::Change;
use crate::views::{RECORD_BYTES_MAX, State};

/// The form of [`Members`] and [`State`] in a snapshot. Raise it with every change of a type that is in
/// there, and with every change of what the fold makes of a record.
const FORMAT: u32 = 2;

/// Everything that is folded from the journal: the same at a start, in the follower, and in a snapshot.
pub(super) struct Folded {
    pub(super) core: Coordinator,
    pub(super) state: State,
    pub(super) members: Members,
}

/// Who came with which invitation, and the keys of all who ever enrolled.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) redemptions: Redemptions,
    pub(super) keys: HashMap<NodeId, NodePublicKey>,
}

/// A snapshot that this program cannot go on from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it has format {0}, this program has {FORMAT}")]
    Format(u32),
    #[error("it ends early")]
    Short,
    #[error("core's part: {0}")]
    Core(#[from] RestoreError),
    #[error("the views' part: {0}")]
    Views(#[from] DecodeError),
    #[error("its parts are of record {core} and of record {state}")]
    Apart { core: Seq, state: Seq },
}

impl Folded {
    pub(super) fn new(config: Config) -> Self {
        Self {
            core: Coordinator::new(config),
            state: State::default(),
            members: Members::default(),
        }
    }

    /// Takes the next record; gives what left the views with it.
    pub(super) fn replay(
        &mut self,
        entry: Entry,
        bytes: &[u8],
    ) -> Result<Vec<Change>, CoordinatorError> {
        let record: Record =
            codec::decode(bytes, RECORD_BYTES_MAX).map_err(|source| CoordinatorError::Record {
                seq: entry.seq,
                source,
            })?;
        let references = &mut self.state.references;
        let told = |effect: &Effect| references.apply(effect);
        self.core.replay_telling(&record, told)?;
        if let Fact::Shell(bytes) = &record.fact
            && let Ok(ShellFact::Redeemed(redemption)) = ShellFact::decode(bytes)
        {
            let keys = &mut self.members.keys;
            remember_key(keys, redemption.node, &redemption.certificate);
            self.members.redemptions.replay(redemption);
        }
        self.state.apply(entry, &Arc::new(record), &mut None);
        Ok(self.state.take_changes())
    }

    /// Takes the records up to `seq`, which are durable; false if `stop` came first. What leaves the views
    /// on the way is dropped: it is in no snapshot.
    pub(super) fn replay_to(
        &mut self,
        journal: &Reader,
        seq: Seq,
        stop: impl Fn() -> bool,
    ) -> Result<bool, CoordinatorError> {
        let mut records = journal.replay(Seq(self.core.seq().0 + 1));
        while self.core.seq() < seq {
            let Some((entry, bytes)) = records.next_entry()? else {
                return Ok(false);
            };
            self.replay(entry, bytes)?;
            if stop() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As the body of a snapshot.
    pub(super) fn encode(&self) -> Vec<u8> {
        let core = self.core.snapshot();
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(core.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&core);
        bytes.extend_from_slice(&codec::encode(&(&self.members, &self.state)));
        bytes
    }

    /// From the body of a snapshot, whose bytes are as they were written.
    pub(super) fn decode(config: Config, bytes: &[u8]) -> Result<Self, Unusable> {
        let (core, rest) = parts(bytes)?;
        let core = Coordinator::restore(config, core)?;
        let (members, state): (Members, State) = codec::decode(rest, usize::MAX)?;
        let (newest, shown) = (core.seq(), state.seq);
        if newest != shown {
            return Err(Unusable::Apart {
                core: newest,
                state: shown,
            });
        }
        Ok(Self {
            core,
            state,
            members,
        })
    }
}

/// The views' part of the body of a snapshot.
pub(crate) fn views_of(bytes: &[u8]) -> Result<State, Unusable> {
    let (_, rest) = parts(bytes)?;
    let (_, state): (Members, State) = codec::decode(rest, usize::MAX)?;
    Ok(state)
}

/// Core's part and the rest.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unusable> {
    let (format, rest) = bytes.split_first_chunk().ok_or(Unusable::Short)?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(Unusable::Format(format));
    }
    let (len, rest) = rest.split_first_chunk().ok_or(Unusable::Short)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| Unusable::Short)?;
    rest.split_at_checked(len).ok_or(Unusable::Short)
}

#[cfg(test)]
mod tests {
    use hearth_core::{Event, Grant, ReportIn, RequestId};
    use hearth_store::Position;
    use hearth_wire::message::Capacity;
    use hearth_wire::record::{NodeKind, NodeProfile, ReleaseFacts};
    use hearth_wire::{
        Body, Checkpoint, Class, Digest, EngineId, EngineRange, InputSet, InvitationNonce, JobId,
        JobOptions, JobSpec, KeyId, Millis, Outcome, Output, Redemption, ReleaseId, SessionId,
        TaskLimits, TaskType, TrustPolicy, UnixSeconds,
    };

    use super::*;

    /// A core and what is folded from its records.
    struct Sample {
        core: Coordinator,
        folded: Folded,
        position: u64,
        now: u64,
    }

    impl Sample {
        fn new() -> Self {
            Self {
                core: Coordinator::new(Config::default()),
                folded: Folded::new(Config::default()),
                position: 0,
                now: 5,
            }
        }

        fn feed(&mut self, event: Event) -> Vec<hearth_core::Effect> {
            let step = self.core.handle(Millis(self.now), event);
            for record in &step.records {
                self.position += 100;
                let entry = Entry {
                    seq: Seq(self.folded.core.seq().0 + 1),
                    position: Position(self.position),
                };
                let bytes = codec::encode(record);
                self.folded.replay(entry, &bytes).unwrap();
            }
            step.effects
        }

        fn release(&mut self) {
            let facts = ReleaseFacts {
                id: ReleaseId::default(),
                author: KeyId::default(),
                component: Digest::default(),
                limits: TaskLimits::default(),
                class: Class::Exact,
                task_type: TaskType::Processing,
                capabilities: Vec::new(),
                locations: Vec::new(),
                engines: EngineRange {
                    min: [0; 3],
                    max: [u16::MAX; 3],
                },
            };
            let request = RequestId(1);
            self.feed(Event::ReleaseAdded { request, facts });
        }

        /// A node joins by the session of its number.
        fn join(&mut self, node: NodeId, session: u64, kind: NodeKind) {
            let profile = NodeProfile {
                node,
                session: SessionId(session),
                kind,
                name: "attic".to_owned(),
                engine: EngineId {
                    version: [48, 0, 8],
                    semantics: Digest::default(),
                },
                architecture: "x86_64".to_owned(),
                capacity: Capacity {
                    slots: 1,
                    memory_bytes: 4 << 30,
                },
                capabilities: Vec::new(),
                location: String::new(),
            };
            let held = Vec::new();
            self.feed(Event::NodeJoined { profile, held });
        }

        /// A job is submitted, and its first task leased if there is room.
        fn submit(&mut self, count: u32, options: JobOptions) -> Option<Grant> {
            let spec = JobSpec {
                release: ReleaseId::default(),
                inputs: InputSet {
                    root: Digest::default(),
                    count,
                    bytes: 9,
                    media_type: "text/plain".to_owned(),
                },
                owner: KeyId::default(),
                options,
            };
            let request = RequestId(1);
            let effects = self.feed(Event::Submit { request, spec });
            let leases = effects.into_iter().find_map(|effect| match effect {
                hearth_core::Effect::Grant { leases, .. } => Some(leases),
                _ => None,
            });
            leases.map(|mut leases| leases.remove(0))
        }

        fn report(&mut self, node: NodeId, session: u64, lease: Grant) {
            let report = ReportIn {
                attempt: lease.attempt,
                task: lease.task,
                outcome: Outcome::Returned(Output {
                    media_type: "text/plain".to_owned(),
                    body: Body::Inline(vec![7]),
                }),
                fuel_used: 1,
                run_micros: 1_000,
            };
            self.feed(Event::Reported {
                node,
                session: SessionId(session),
                reports: vec![report],
            });
        }
    }

    /// One of everything: maps of more would be written in any order.
    fn folded() -> Folded {
        let mut sample = Sample::new();
        let node = NodeId::default();
        let redemption = Redemption {
            nonce: InvitationNonce([1; 16]),
            node,
            certificate: vec![1, 2, 3],
            expires: UnixSeconds(u64::MAX),
        };
        let clock = ShellFact::Clock {
            at: Millis(5),
            unix_millis: 1_000,
        };
        for fact in [clock, ShellFact::Redeemed(redemption)] {
            let bytes = fact.encode();
            let request = None;
            sample.feed(Event::Shell { request, bytes });
        }
        sample.release();
        sample.join(node, 1, NodeKind::Volunteer);
        let options = JobOptions {
            idempotency_key: Some("once".to_owned()),
            ..JobOptions::default()
        };
        let lease = sample.submit(2, options).unwrap();
        sample.report(node, 1, lease);
        // One that has ended, so that its tasks are away.
        sample.submit(2, JobOptions::default());
        let (request, job, owner) = (RequestId(1), JobId(2), None);
        sample.feed(Event::Cancel {
            request,
            job,
            owner,
        });
        sample.folded
    }

    /// What the other one does not hold: a report that is still to be checked, a checkpoint, a switch of
    /// the mode. Two nodes have to be known for that.
    fn checked() -> Folded {
        let mut sample = Sample::new();
        let nodes = [1, 2].map(|name: u8| NodeId(Digest::of(&[name])));
        sample.feed(Event::Started { incarnation: 1 });
        sample.release();
        sample.join(nodes[0], 1, NodeKind::Trusted);
        let session = SessionId(1);
        sample.feed(Event::NodeLost { session });
        sample.join(nodes[1], 2, NodeKind::Volunteer);
        let options = JobOptions {
            trust: TrustPolicy::Certain,
            ..JobOptions::default()
        };
        let lease = sample.submit(1, options).unwrap();
        sample.report(nodes[1], 2, lease);
        let lease = sample.submit(1, JobOptions::default()).unwrap();
        sample.feed(Event::CheckpointMade {
            node: nodes[1],
            attempt: lease.attempt,
            checkpoint: Checkpoint {
                state: Body::Inline(b"so far".to_vec()),
                fuel_used: 3,
                chain: Vec::new(),
            },
        });
        while sample.folded.state.switches.is_empty() {
            sample.now = sample.core.next_timeout().unwrap().0;
            sample.feed(Event::Tick);
        }
        sample.folded
    }

    #[test]
    fn what_is_folded_gets_into_a_snapshot_and_out_of_it() {
        let folded = folded();
        let bytes = folded.encode();
        let again = Folded::decode(Config::default(), &bytes).unwrap();
        assert!(again.encode() == bytes);
        assert_eq!(format!("{:?}", again.state), format!("{:?}", folded.state));
        assert_eq!(again.members.redemptions.len(), 1);
        for len in [0, 3, 4, 11, 12, 100, bytes.len() - 1] {
            assert!(Folded::decode(Config::default(), &bytes[..len]).is_err());
        }
        let mut other = bytes;
        other[0] ^= 0x40;
        assert!(matches!(
            Folded::decode(Config::default(), &other),
            Err(Unusable::Format(_))
        ));
    }

    /// Whoever changes what is in a snapshot, or what the fold makes of a record, meets this: then older
    /// snapshots must not be read any more. Raise `FORMAT`, and put the new digests here.
    #[test]
    fn what_is_in_a_snapshot_changes_only_together_with_its_format() {
        let digest = |folded: &Folded| {
            Digest::of(&codec::encode(&(&folded.members, &folded.state))).to_string()
        };
        let known = "21c80fe97c96ba2b82d1a14379785ab0ddf2f77b0d35793bd466a409adff0732";
        assert_eq!((FORMAT, digest(&folded()).as_str()), (2, known));
        let checked = digest(&checked());
        // Two nodes are written in either order.
        let known = [
            "2cad88536028fa28c169bf79d382fce90a476639a609950621d766b795ef118e",
            "e8b7f0e8d201f841c1b01c4140b9642565431ab746806817685ed0524313d6b3",
        ];
        assert!(known.contains(&checked.as_str()), "{checked}");
    }
}

use hearth_wire::{Body, Checkpoint, Digest, JobId, NodeId, TaskId, TaskIndex, limits};

use super::*;

struct Makers {
    keys: Vec<NodeKey>,
    local: NodeId,
}

impl Makers {
    fn new() -> Self {
        Self {
            keys: (0..3).map(|_| NodeKey::generate().unwrap()).collect(),
            local: NodeId(Digest::of(b"local")),
        }
    }

    fn know(&self, node: NodeId) -> Option<Maker> {
        if node == self.local {
            return Some(Maker::Local);
        }
        let key = self.keys.iter().find(|key| key.node_id() == node)?;
        Some(Maker::Key(key.public().clone()))
    }

    fn verify(&self, checkpoint: &Checkpoint) -> Result<Verified<Checkpoint>, ChainError> {
        verify_checkpoint(checkpoint.clone(), about(), |node| self.know(node))
    }

    fn by(&self, index: usize, fuel: u64, resumed: Option<&Checkpoint>) -> Checkpoint {
        let key = &self.keys[index];
        sign_checkpoint(Some(key), key.node_id(), about(), state(fuel), resumed).unwrap()
    }
}

fn about() -> (Digest, TaskId) {
    let task = TaskId {
        job: JobId(3),
        index: TaskIndex(4),
    };
    (Digest::of(b"content"), task)
}

fn state(fuel: u64) -> (Body, u64) {
    (Body::Inline(fuel.to_le_bytes().to_vec()), fuel)
}

#[test]
fn a_chain_of_volunteers_and_the_local_host_is_verified() {
    let makers = Makers::new();
    let first = makers.by(0, 10, None);
    let local = sign_checkpoint(None, makers.local, about(), state(20), Some(&first)).unwrap();
    let last = makers.by(1, 30, Some(&local));
    assert_eq!(last.chain.len(), 3);
    for checkpoint in [&first, &local, &last] {
        assert_eq!(*makers.verify(checkpoint).unwrap(), *checkpoint);
    }
}

#[test]
fn poisoned_checkpoints_are_traced_to_their_maker() {
    let makers = Makers::new();
    let first = makers.by(0, 10, None);
    let good = makers.by(1, 20, Some(&first));
    let refused = |edit: &dyn Fn(&mut Checkpoint)| {
        let mut changed = good.clone();
        edit(&mut changed);
        makers.verify(&changed).unwrap_err()
    };
    let (zero, one) = (makers.keys[0].node_id(), makers.keys[1].node_id());
    assert_eq!(
        refused(&|c| c.state = Body::Inline(b"poison".to_vec())),
        ChainError::OtherState
    );
    assert_eq!(refused(&|c| c.fuel_used = 5), ChainError::OtherState);
    assert_eq!(
        refused(&|c| c.chain[1].state = Digest::of(b"poison")),
        ChainError::BadSignature(one)
    );
    // Changing an earlier link breaks that link; leaving it out breaks the next.
    assert_eq!(
        refused(&|c| c.chain[0].fuel_used = 1),
        ChainError::BadSignature(zero)
    );
    assert_eq!(
        refused(&|c| drop(c.chain.remove(0))),
        ChainError::BadSignature(one)
    );
    // Blaming another.
    assert_eq!(
        refused(&|c| c.chain[1].node = zero),
        ChainError::BadSignature(zero)
    );
    assert_eq!(
        refused(&|c| c.chain[1].node = makers.local),
        ChainError::BadSignature(makers.local)
    );
    let stranger = NodeId(Digest::of(b"stranger"));
    assert_eq!(
        refused(&|c| c.chain[1].node = stranger),
        ChainError::UnknownMaker(stranger)
    );
    assert_eq!(refused(&|c| c.chain.clear()), ChainError::Empty);
    assert!(matches!(
        refused(&|c| c.state = Body::Inline(vec![0; limits::INLINE_BYTES_MAX + 1])),
        ChainError::TooLarge(_)
    ));
}

#[test]
fn a_checkpoint_of_one_task_is_none_of_another() {
    let makers = Makers::new();
    let checkpoint = makers.by(0, 10, None);
    let (content, mut task) = about();
    task.index = TaskIndex(5);
    for about in [(content, task), (Digest::of(b"other"), about().1)] {
        assert_eq!(
            verify_checkpoint(checkpoint.clone(), about, |node| makers.know(node)).unwrap_err(),
            ChainError::BadSignature(makers.keys[0].node_id())
        );
    }
}

#[test]
fn fuel_never_goes_down_and_chains_end() {
    let makers = Makers::new();
    let first = makers.by(0, 10, None);
    let less = makers.by(1, 9, Some(&first));
    assert_eq!(
        makers.verify(&less).unwrap_err(),
        ChainError::FuelWentDown(makers.keys[1].node_id())
    );
    let mut checkpoint = first;
    for fuel in 0..limits::CHECKPOINT_CHAIN_MAX as u64 - 1 {
        checkpoint = makers.by(2, 11 + fuel, Some(&checkpoint));
    }
    makers.verify(&checkpoint).unwrap();
    let key = &makers.keys[0];
    let more = sign_checkpoint(
        Some(key),
        key.node_id(),
        about(),
        state(100),
        Some(&checkpoint),
    );
    assert_eq!(more.unwrap_err(), ChainError::TooLong);
    let link = checkpoint.chain[0].clone();
    checkpoint.chain.push(link);
    assert_eq!(makers.verify(&checkpoint).unwrap_err(), ChainError::TooLong);
}

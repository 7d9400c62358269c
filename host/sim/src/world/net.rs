//! The network: late, lossy, forgetful, worse than TCP on purpose.

use hearth_wire::SessionId;

use super::{Happening, Message, ToNode, World};
use crate::fault::Fault;

impl World {
    /// When copies of a message arrive, if any do.
    fn passage(&mut self, node: usize) -> Vec<u64> {
        if self.nodes[node].cut_until > self.now {
            return Vec::new();
        }
        let usual = self.rng.range(1, 40);
        if self.quiet || self.config.message_luck == 0 {
            return vec![usual];
        }
        let luck = self.config.message_luck;
        match self.rng.below(luck) {
            0 => {
                self.fault(Fault::MessageLost);
                Vec::new()
            }
            1 => {
                self.fault(Fault::MessageRepeated);
                let again = self.rng.range(1, 3_000);
                vec![usual, again]
            }
            2 => {
                self.fault(Fault::MessageReordered);
                vec![usual + 150]
            }
            3 => {
                self.fault(Fault::MessageDelayed);
                vec![self.rng.range(1_000, 20_000)]
            }
            _ => vec![usual],
        }
    }

    pub(crate) fn send_to_coordinator(&mut self, node: usize, message: Message) {
        let Some(link) = self.nodes[node].link else {
            return;
        };
        for wait in self.passage(node) {
            self.after(wait, Happening::AtCoordinator(link, message.clone()));
        }
    }

    pub(crate) fn send_to_node(&mut self, session: SessionId, message: ToNode) {
        let Some(link) = self.shell.by_session.get(&session).copied() else {
            return;
        };
        let Some((node, _)) = self.shell.links.get(&link).copied() else {
            return;
        };
        for wait in self.passage(node) {
            self.after(wait, Happening::AtNode(node, link, message.clone()));
        }
    }
}

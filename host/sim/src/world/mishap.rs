//! What goes wrong now and then, and how it all stops.

use hearth_wire::message::Capacity;
use hearth_wire::record::NodeKind;

use super::client::Wish;
use super::node::PLACES;
use super::{Happening, Message, World};
use crate::fault::Fault;

impl World {
    /// Something goes wrong.
    pub(crate) fn mishap(&mut self) {
        if self.quiet {
            return;
        }
        let next = self.rng.range(1, self.config.mishap_millis * 2);
        self.after(next, Happening::Mishap);
        self.mend();
        match self.rng.below(20) {
            0 => self.partition(),
            1 | 2 => {
                let node = self.any_node();
                if self.nodes[node].alive && !self.nodes[node].revoked {
                    self.fault(Fault::NodeCrash);
                    self.crash_node(node);
                }
            }
            3 => self.break_link(),
            4 => self.second_session(),
            5 | 17 | 18 | 19 => self.coordinator_mishap(),
            6 => self.clock_leaps(),
            7 => {
                // Counted when core is called at a time that it has passed before.
                let for_millis = self.rng.range(100, 3_000);
                self.shell.back = (self.now + for_millis, self.rng.range(1_000, 86_400_000));
                self.shell.back_seen = false;
            }
            8 => self.cancel_something(),
            9 => self.submit_again(),
            10 if self.shell.up => {
                self.fault(Fault::JobStorm);
                for _ in 0..self.rng.range(5, 20) {
                    let spec = self.new_spec();
                    self.ask(Wish::Submit(spec, None));
                }
            }
            11 => self.drain_a_node(),
            12 => self.revoke_a_node(),
            13 => {
                if self.rng.once_in(2) {
                    self.revoke_a_release();
                } else {
                    self.publish();
                }
            }
            14 => self.owner_pauses(),
            15 => {
                self.ask(Wish::Bad);
            }
            16 => {
                let node = self.any_node();
                let (node, level) = (self.nodes[node].id, self.rng.below(256) as u8);
                let reason = "odd timing".to_owned();
                self.feed(hearth_core::Event::Suspicion {
                    node,
                    level,
                    reason,
                });
            }
            _ => {}
        }
    }

    /// Some of what was broken before is mended.
    fn mend(&mut self) {
        for index in 0..self.nodes.len() {
            if !self.nodes[index].alive && self.rng.once_in(3) {
                self.wake_node(index);
            }
            if self.nodes[index].capacity.slots == 0 && self.rng.once_in(3) {
                self.set_slots(index, 4);
            }
        }
    }

    fn any_node(&mut self) -> usize {
        self.rng.below(self.nodes.len() as u64) as usize
    }

    /// Most leaps are short: one by a day ends every lease and passes every deadline.
    fn clock_leaps(&mut self) {
        if !self.shell.up {
            return;
        }
        self.fault(Fault::ClockAhead);
        self.shell.offset += if self.rng.once_in(4) {
            self.rng.range(120_000, 86_400_000)
        } else {
            self.rng.range(1_000, 120_000)
        };
        self.plan_tick_anew();
    }

    fn partition(&mut self) {
        let share = self.rng.range(2, 10);
        let until = self.now + self.rng.range(500, 30_000);
        let mut parted = false;
        for index in 0..self.nodes.len() {
            if !self.rng.once_in(share) {
                continue;
            }
            self.nodes[index].cut_until = until;
            parted |= self.nodes[index].link.is_some();
            // Both sides give up after the same silence, unless it ends before.
            if until > self.now + 1_600
                && let Some(link) = self.nodes[index].link
            {
                self.after(1_600, Happening::Silent(link));
                self.node_hangs_up(index);
            }
        }
        if parted {
            self.fault(Fault::Partition);
        }
    }

    fn break_link(&mut self) {
        let index = self.any_node();
        if let Some(link) = self.nodes[index].link {
            self.fault(Fault::Reconnect);
            let wait = self.rng.range(1, 1_600);
            self.after(wait, Happening::Silent(link));
            self.node_hangs_up(index);
        }
    }

    fn second_session(&mut self) {
        let index = self.any_node();
        let node = &self.nodes[index];
        let reached = self.shell.up && node.cut_until <= self.now;
        if node.alive && node.welcome && !node.revoked && reached {
            self.fault(Fault::SecondSession);
            self.connect(index);
        }
    }

    fn drain_a_node(&mut self) {
        // Counted when core tells the node.
        let index = self.any_node();
        if self.rng.once_in(2) {
            self.send_to_coordinator(index, Message::Goodbye);
        } else {
            let id = self.nodes[index].id;
            self.ask(Wish::Drain(id));
        }
        // It comes back some time, by a new connection.
        if let Some(link) = self.nodes[index].link {
            let wait = self.rng.range(2_000, 60_000);
            self.after(wait, Happening::Silent(link));
            self.after(wait, Happening::AtNode(index, link, super::ToNode::Close));
        }
    }

    fn revoke_a_node(&mut self) {
        let index = self.any_node();
        if self.nodes[index].kind != NodeKind::Volunteer || self.nodes[index].revoked {
            return;
        }
        self.nodes[index].revoked = true;
        let id = self.nodes[index].id;
        self.ask(Wish::RevokeNode(id));
        self.add_node(NodeKind::Volunteer);
    }

    fn owner_pauses(&mut self) {
        // Counted when core hears of it.
        let index = self.any_node();
        let slots = if self.rng.once_in(2) {
            0
        } else {
            self.rng.range(1, 8) as u16
        };
        self.set_slots(index, slots);
    }

    fn set_slots(&mut self, index: usize, slots: u16) {
        self.nodes[index].capacity.slots = slots;
        let capacity = Capacity {
            slots,
            ..self.nodes[index].capacity
        };
        self.send_to_coordinator(index, Message::Capacity(capacity));
    }

    /// Faults stop: every machine works, is honest, and is reached; there are some of every kind.
    pub(crate) fn make_peace(&mut self) {
        self.quiet = true;
        self.shell.crash_soon = false;
        self.shell.storage.disarm();
        if !self.shell.up {
            self.restart_coordinator();
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].cut_until = 0;
            self.nodes[index].lies = 0;
            self.nodes[index].clumsy = 0;
            self.nodes[index].pace = 100;
            // A message about slots may have been lost, so each node connects anew.
            if self.nodes[index].capacity.slots == 0 {
                self.nodes[index].capacity.slots = 2;
            }
            if self.nodes[index].revoked {
                continue;
            }
            if let Some(link) = self.nodes[index].link {
                self.link_is_dead(link);
            }
            self.nodes[index].alive = true;
            self.nodes[index].link = None;
            self.connect(index);
        }
        for place in PLACES {
            for kind in [NodeKind::Volunteer, NodeKind::Volunteer, NodeKind::Trusted] {
                let index = self.add_node(kind);
                let node = &mut self.nodes[index];
                node.location = place.to_owned();
                node.pace = 100;
                node.capabilities = vec!["gpu".to_owned()];
                node.engine.version = [48, 0, 8];
                node.capacity = Capacity {
                    slots: 8,
                    memory_bytes: 1 << 36,
                };
            }
        }
    }
}

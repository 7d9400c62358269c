//! Whose turn it is among the flows that wait: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).

use std::collections::HashMap;

/// Flows of which it is remembered how far they have come: more than there can be attempts. Beyond it those
/// that are not ahead of the rest are forgotten, and all of them if that is none.
const FLOWS_MAX: usize = 2 * super::RUNS_MAX;

/// Gives places to attempts so that flows share the time of the slots alike: an attempt stands as far behind
/// the one before it of its flow as that one is expected to run, and the first of a flow stands beside what
/// is taken at the moment.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The place that was taken last.
    now: u64,
    /// Where the next attempt of a flow stands.
    flows: HashMap<u64, u64>,
}

impl Turns {
    /// The place of the next attempt of a flow that is expected to run for so long.
    pub(super) fn place(&mut self, flow: u64, micros: u64) -> u64 {
        if self.flows.len() >= FLOWS_MAX {
            self.flows.retain(|_, next| *next > self.now);
            if self.flows.len() > FLOWS_MAX / 2 {
                self.flows.clear();
            }
        }
        let next = self.flows.entry(flow).or_default();
        let place = self.now.max(*next);
        *next = place.saturating_add(micros.max(1));
        place
    }

    /// The attempt at this place is run now.
    pub(super) fn taken(&mut self, place: u64) {
        self.now = self.now.max(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_share_time_alike_and_a_new_one_waits_for_none() {
        let mut turns = Turns::default();
        let long: Vec<_> = (0..10).map(|_| turns.place(1, 100)).collect();
        assert_eq!(long, (0..10).map(|n| n * 100).collect::<Vec<_>>());
        turns.taken(long[4]);
        let short: Vec<_> = (0..3).map(|_| turns.place(2, 50)).collect();
        assert_eq!(short, [400, 450, 500]);
        turns.taken(long[9]);
        assert_eq!(turns.place(2, 50), 900, "what was not used is no claim");
        for flow in 3..50_000 {
            turns.place(flow, 1);
            turns.taken(turns.now + 1);
        }
        assert!(turns.flows.len() <= FLOWS_MAX);
    }
}

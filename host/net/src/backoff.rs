//! Delays between attempts: exponential, with full jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hearth_wire::limits::{RECONNECT_MILLIS_MAX, RECONNECT_MILLIS_MIN};

/// The delay before the next attempt.
///
/// Each delay is drawn evenly from zero to a ceiling that doubles from `min` to `max`. Full jitter
/// costs a predictable first delay and buys that a thousand nodes that lost one coordinator in the
/// same millisecond do not come back in the same millisecond.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
    state: u64,
}

impl Backoff {
    /// Delays from a printed seed, for tests and simulations.
    #[must_use]
    pub fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        Self {
            min,
            max: max.max(min),
            ceiling: min,
            state: seed,
        }
    }

    /// Delays between attempts to reconnect, differently seeded in each process.
    #[must_use]
    pub fn reconnect() -> Self {
        Self::seeded(
            Duration::from_millis(RECONNECT_MILLIS_MIN),
            Duration::from_millis(RECONNECT_MILLIS_MAX),
            RandomState::new().hash_one(std::process::id()),
        )
    }

    /// Delays within other bounds, from the lower one on.
    pub fn set_range(&mut self, min: Duration, max: Duration) {
        (self.min, self.max, self.ceiling) = (min, max.max(min), min);
    }

    /// The next delay; the one after it may be twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling.as_nanos().min(u128::from(u64::MAX - 1)) as u64;
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        Duration::from_nanos(self.random() % (ceiling + 1))
    }

    /// Starts again at `min`: something worked.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }

    /// SplitMix64: even, tiny, and not for secrets.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn stays_within_a_ceiling_that_doubles_and_starts_again_after_success() {
        let mut backoff = Backoff::seeded(MIN, MAX, 1);
        let mut ceiling = MIN;
        for _ in 0..20 {
            assert!(backoff.next_delay() <= ceiling);
            ceiling = (ceiling * 2).min(MAX);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= MIN);
    }

    /// H23: a thousand nodes that lose their coordinator at once come back spread out.
    #[test]
    fn spreads_a_storm() {
        let mut slots = [0u32; 10];
        for seed in 0..1_000 {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            let delay = (0..5).map(|_| backoff.next_delay()).last().unwrap();
            slots[(delay.as_millis() / 160).min(9) as usize] += 1;
        }
        assert!(
            slots.iter().all(|&slot| (50..200).contains(&slot)),
            "{slots:?}"
        );
    }

    #[test]
    fn repeats_from_a_seed() {
        let delays = |seed| {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            (0..10).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }
}

//! A budget for each network prefix, in a map that cannot grow.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a handshake that ends well costs, in thousandths of a token. Who has a certificate of the realm has
/// a name, and can be shut out by it: a lab of thousands comes back within seconds, and a flood of members
/// takes half a core at most.
const MEMBER_TOKEN: u64 = 125;

/// What one network prefix (`/24` of IPv4, `/56` of IPv6: what one customer usually gets) may take.
#[derive(Debug, Clone)]
pub struct PrefixLimits {
    /// New connections at once; eight times as many whose handshake ends well.
    pub burst: u32,
    /// New connections per second in the long run; eight times as many whose handshake ends well.
    pub per_second: u32,
    /// Connections whose handshake has not ended.
    pub pending: u32,
    /// Prefixes remembered. Beyond it, unknown prefixes share one budget.
    pub prefixes: usize,
}

impl Default for PrefixLimits {
    fn default() -> Self {
        Self {
            // A lab behind one address reconnects after a restart of the coordinator: at once for
            // this many nodes, then jittered backoff spreads the rest.
            burst: 256,
            per_second: 64,
            // A quarter of all pending places: four networks must conspire to fill them.
            pending: 256,
            // 64 bytes each.
            prefixes: 16_384,
        }
    }
}

/// The prefix of an address: version and leading bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Prefix {
    V4([u8; 3]),
    V6([u8; 7]),
    /// All prefixes that came while the map was full.
    Unknown,
}

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// In thousandths.
    tokens: u64,
    updated: Instant,
    pending: u32,
}

#[derive(Debug)]
pub(super) struct Prefixes {
    limits: PrefixLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buckets: HashMap<Prefix, Bucket>,
    swept: Option<Instant>,
}

/// One place among the pending of a prefix; free again when dropped.
#[derive(Debug)]
pub(super) struct Pending {
    prefixes: Arc<Prefixes>,
    prefix: Prefix,
}

impl Prefixes {
    pub(super) fn new(limits: PrefixLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::new(State {
                buckets: HashMap::new(),
                swept: None,
            }),
        })
    }

    /// A token and a place for one more connection from `address`, if its prefix has them.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Pending> {
        let mut state = self.lock();
        let mut prefix = Prefix::of(address);
        if !state.buckets.contains_key(&prefix) && state.buckets.len() >= self.limits.prefixes {
            // A sweep looks at every bucket, so a flood of prefixes gets one per second at most.
            if state
                .swept
                .is_none_or(|swept| now.duration_since(swept) >= Duration::from_secs(1))
            {
                state.swept = Some(now);
                state.buckets.retain(|_, bucket| {
                    bucket.pending > 0 || self.refilled(bucket, now) < self.full()
                });
            }
            if state.buckets.len() >= self.limits.prefixes {
                prefix = Prefix::Unknown;
            }
        }
        let full = self.full();
        let bucket = state.buckets.entry(prefix).or_insert(Bucket {
            tokens: full,
            updated: now,
            pending: 0,
        });
        bucket.tokens = self.refilled(bucket, now);
        bucket.updated = now;
        if bucket.tokens < 1_000 || bucket.pending >= self.limits.pending {
            return None;
        }
        bucket.tokens -= 1_000;
        bucket.pending += 1;
        Some(Pending {
            prefixes: self.clone(),
            prefix,
        })
    }

    fn give_back(&self, prefix: Prefix) {
        if let Some(bucket) = self.lock().buckets.get_mut(&prefix) {
            bucket.tokens = (bucket.tokens + 1_000 - MEMBER_TOKEN).min(self.full());
        }
    }

    fn full(&self) -> u64 {
        u64::from(self.limits.burst) * 1_000
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> u64 {
        let millis = now.duration_since(bucket.updated).as_millis() as u64;
        let earned = millis.saturating_mul(u64::from(self.limits.per_second));
        bucket.tokens.saturating_add(earned).min(self.full())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// The handshake ended well: a part of the token is free again.
    pub(super) fn ended_well(self) {
        self.prefixes.give_back(self.prefix);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(bucket) = self.prefixes.lock().buckets.get_mut(&self.prefix) {
            bucket.pending = bucket.pending.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> PrefixLimits {
        PrefixLimits {
            burst: 3,
            per_second: 2,
            pending: 2,
            prefixes: 2,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_spends_its_burst_and_earns_it_back() {
        let prefixes = Prefixes::new(limits());
        let start = Instant::now();
        for host in ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3"] {
            assert!(prefixes.admit(ip(host), start).is_some());
        }
        assert!(prefixes.admit(ip("10.0.0.4"), start).is_none());
        assert!(prefixes.admit(ip("10.0.1.4"), start).is_some());
        let later = start + Duration::from_millis(500);
        assert!(prefixes.admit(ip("10.0.0.5"), later).is_some());
        assert!(prefixes.admit(ip("10.0.0.6"), later).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn members_come_eight_times_as_often() {
        let prefixes = Prefixes::new(limits());
        let start = Instant::now();
        for _ in 0..17 {
            let admitted = prefixes.admit(ip("10.0.0.1"), start);
            admitted.expect("a member").ended_well();
        }
        assert!(prefixes.admit(ip("10.0.0.1"), start).is_none());
        let later = start + Duration::from_secs(1);
        for _ in 0..11 {
            let admitted = prefixes.admit(ip("10.0.0.1"), later);
            admitted.expect("a member").ended_well();
        }
        assert!(prefixes.admit(ip("10.0.0.1"), later).is_some());
        assert!(prefixes.admit(ip("10.0.0.1"), later).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_cannot_take_all_pending_places() {
        let prefixes = Prefixes::new(limits());
        let now = Instant::now();
        let first = prefixes.admit(ip("2001:db8::1"), now);
        let second = prefixes.admit(ip("2001:db8:0:ff::1"), now);
        assert!(first.is_some() && second.is_some());
        assert!(prefixes.admit(ip("2001:db8::2"), now).is_none());
        drop(first);
        assert!(prefixes.admit(ip("2001:db8::2"), now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_forgets_who_has_behaved_and_lumps_the_others_together() {
        let prefixes = Prefixes::new(limits());
        let start = Instant::now();
        for third in 0..200u8 {
            let _ = prefixes.admit(IpAddr::from([10, 0, third, 1]), start);
            assert!(prefixes.lock().buckets.len() <= 3);
        }
        // The shared budget is spent, known prefixes have their own.
        assert!(prefixes.admit(ip("10.9.9.9"), start).is_none());
        assert!(prefixes.admit(ip("10.0.0.1"), start).is_some());
        let later = start + Duration::from_secs(2);
        assert!(prefixes.admit(ip("10.9.9.9"), later).is_some());
        assert!(
            prefixes
                .lock()
                .buckets
                .contains_key(&Prefix::V4([10, 9, 9]))
        );
    }
}

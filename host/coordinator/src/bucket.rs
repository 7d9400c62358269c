//! Token buckets: a rate in the long run, and a burst at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    tokens: f64,
    per_second: f64,
    burst: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self {
            tokens: burst.into(),
            per_second: per_second.into(),
            burst: burst.into(),
            filled: now,
        }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + since * self.per_second).min(self.burst);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    fn is_full(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + since * self.per_second >= self.burst
    }
}

/// Keys with a bucket at once. Full buckets are forgotten first; without any, newcomers wait.
const BUCKETS_MAX: usize = 10_000;

/// One bucket for each key.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    per_second: u32,
    burst: u32,
    buckets: Mutex<BTreeMap<K, Bucket>>,
}

impl<K: Ord> Buckets<K> {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst,
            buckets: Mutex::default(),
        }
    }

    /// Takes one of the key's tokens, if there is one.
    pub(crate) fn take(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= BUCKETS_MAX {
                return false;
            }
        }
        buckets
            .entry(key)
            .or_insert_with(|| Bucket::new(self.per_second, self.burst, now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let buckets = Buckets::new(2, 3);
        let at = |millis| start + Duration::from_millis(millis);
        let taken = (0..5).filter(|_| buckets.take("a", at(0))).count();
        assert_eq!(taken, 3);
        assert!(buckets.take("b", at(0)));
        assert!(!buckets.take("a", at(499)));
        assert!(buckets.take("a", at(1_000)));
    }
}

//! A median in a few bytes: counts in buckets whose width grows with the value.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Run times seen so far, in microseconds; the median is right within an eighth.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    total: u32,
}

/// In snapshots: the counts that are not zero, with their places.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = self.entries().collect();
        (self.total, entries).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (total, entries) = <(u32, Vec<(usize, u32)>)>::deserialize(from)?;
        let mut histogram = Self {
            total,
            ..Self::default()
        };
        for (bucket, count) in entries {
            let known = histogram.counts.get_mut(bucket);
            *known.ok_or_else(|| D::Error::custom("no such bucket"))? = count;
        }
        Ok(histogram)
    }
}

/// Four buckets for each power of two up to 2^40 µs (twelve days); longer runs share the last.
const BUCKETS: usize = 160;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, micros: u64) {
        let count = &mut self.counts[bucket(micros)];
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// The middle of the bucket in which the median lies; `None` before the first value.
    pub(crate) fn median(&self) -> Option<u64> {
        let mut left = self.total.checked_sub(1)? / 2;
        for (index, count) in self.counts.iter().enumerate() {
            if left < *count {
                return Some(middle(index));
            }
            left -= count;
        }
        None
    }

    /// The non-zero counts with their places, for the state hash.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let nonzero = |(_, count): &(usize, u32)| *count > 0;
        self.counts.iter().copied().enumerate().filter(nonzero)
    }
}

fn bucket(micros: u64) -> usize {
    let value = micros.max(4);
    let power = value.ilog2() as usize;
    let quarter = (value >> (power - 2)) as usize & 3;
    ((power - 2) * 4 + quarter).min(BUCKETS - 1)
}

fn middle(index: usize) -> u64 {
    let (power, quarter) = (index / 4 + 2, (index % 4) as u64);
    let width = 1u64 << (power - 2);
    (4 + quarter) * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_within_an_eighth() {
        assert_eq!(Histogram::default().median(), None);
        for scale in [10, 1_000, 77_777, 5_000_000_000] {
            let mut histogram = Histogram::default();
            (1..=1001u64).for_each(|n| histogram.add(n * scale));
            let (found, exact) = (histogram.median().unwrap(), 501 * scale);
            assert!(found.abs_diff(exact) * 8 <= exact, "{found} for {exact}");
        }
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        histogram.add(0);
        assert!(histogram.median().is_some());
    }
}

//! Two clocks: core's, which never goes back, and the wall's, which is only shown.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hearth_wire::{Millis, UnixSeconds};
use jiff::Timestamp;

/// Core's time: the last journaled one plus what a monotonic clock says since. A step of the wall
/// clock, forward or back, changes nothing here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Millis,
    since: Instant,
}

impl Clock {
    /// Goes on where the journal ended.
    pub(crate) fn starting_at(base: Millis) -> Self {
        Self {
            base,
            since: Instant::now(),
        }
    }

    /// Core's time now.
    pub(crate) fn now(&self) -> Millis {
        self.base.plus(self.since.elapsed().as_millis() as u64)
    }

    /// The moment at which core's clock shows `at`.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.since + std::time::Duration::from_millis(at.since(self.base))
    }
}

/// Wall time in milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// Milliseconds since this process first asked: for how long ago something was.
pub(crate) fn uptime_millis() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

/// The wall time of a moment of [`uptime_millis`], as ISO 8601.
pub(crate) fn iso_of_uptime(moment: u64) -> String {
    let ago = uptime_millis().saturating_sub(moment);
    iso(unix_millis().saturating_sub(ago))
}

/// Wall time, for certificates and signatures.
pub(crate) fn unix_now() -> UnixSeconds {
    UnixSeconds(unix_millis() / 1_000)
}

/// ISO 8601 in UTC, to the millisecond.
pub(crate) fn iso(unix_millis: u64) -> String {
    let millis = i64::try_from(unix_millis).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

/// Which wall times belong to core's times: an anchor for each life of a coordinator, and one more
/// whenever the wall clock was set. Journaled, so that old results keep their dates.
#[derive(Debug, Default)]
pub(crate) struct WallTimes {
    /// Ordered by core's time.
    anchors: Vec<(Millis, u64)>,
}

/// Anchors kept: a start each day for eleven years. The oldest goes first.
const ANCHORS_MAX: usize = 4_096;

impl WallTimes {
    /// From `at` on, core's time `at` is the wall time `unix_millis`.
    pub(crate) fn anchor(&mut self, at: Millis, unix_millis: u64) {
        if self.anchors.len() == ANCHORS_MAX {
            self.anchors.remove(0);
        }
        self.anchors.push((at, unix_millis));
    }

    /// The wall time of core's time `at`, in milliseconds since 1970.
    pub(crate) fn unix_millis(&self, at: Millis) -> u64 {
        let after = self.anchors.partition_point(|(anchor, _)| *anchor <= at);
        match self.anchors.get(after.saturating_sub(1)) {
            Some((anchor, wall)) => wall
                .saturating_add(at.since(*anchor))
                .saturating_sub(anchor.since(at)),
            None => at.0,
        }
    }

    /// The same as ISO 8601.
    pub(crate) fn iso(&self, at: Millis) -> String {
        iso(self.unix_millis(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_follow_the_anchor_before_them() {
        let mut times = WallTimes::default();
        times.anchor(Millis(100), 1_000_000);
        times.anchor(Millis(500), 9_000_000);
        assert_eq!(times.unix_millis(Millis(50)), 999_950);
        assert_eq!(times.unix_millis(Millis(499)), 1_000_399);
        assert_eq!(times.unix_millis(Millis(501)), 9_000_001);
        assert_eq!(iso(1_500), "1970-01-01T00:00:01.500Z");
    }
}

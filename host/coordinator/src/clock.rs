//! Two clocks: core's, which never goes back, and the wall's, which is only shown.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hearth_store::Position;
use hearth_wire::{Millis, UnixSeconds};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Core's time: where it stands at the start plus what a monotonic clock says since. A step of the
/// wall clock, forward or back, changes nothing here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Millis,
    since: Instant,
}

impl Clock {
    /// Goes on from `base`, which is not before the journal's end.
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
///
/// A record's time is told by the newest anchor before it in the journal, which is the one that held
/// when it was acknowledged. Core's time alone would not do: a life may begin at the very time at
/// which the one before ended, and its anchor must not move what was told before.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WallTimes {
    /// In the order of the journal.
    anchors: Vec<Anchor>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Anchor {
    position: Position,
    at: Millis,
    unix_millis: u64,
}

/// Anchors kept: a start each day for eleven years. The oldest goes first.
const ANCHORS_MAX: usize = 4_096;

impl WallTimes {
    /// For records behind `position`, core's time `at` is the wall time `unix_millis`.
    pub(crate) fn anchor(&mut self, position: Position, at: Millis, unix_millis: u64) {
        if self.anchors.len() == ANCHORS_MAX {
            self.anchors.remove(0);
        }
        self.anchors.push(Anchor {
            position,
            at,
            unix_millis,
        });
    }

    /// The wall time of core's time `at` as the record at `position` tells it, in milliseconds since
    /// 1970.
    pub(crate) fn unix_millis(&self, position: Position, at: Millis) -> u64 {
        let after = self
            .anchors
            .partition_point(|anchor| anchor.position <= position);
        match self.anchors.get(after.saturating_sub(1)) {
            Some(anchor) => anchor
                .unix_millis
                .saturating_add(at.since(anchor.at))
                .saturating_sub(anchor.at.since(at)),
            None => at.0,
        }
    }

    /// The same as ISO 8601.
    pub(crate) fn iso(&self, position: Position, at: Millis) -> String {
        iso(self.unix_millis(position, at))
    }

    /// How long ago core's time `at` was when the wall clock shows `unix_millis`; zero if it was set
    /// back since, or if nothing was anchored yet.
    pub(crate) fn elapsed(&self, at: Millis, unix_millis: u64) -> u64 {
        if self.anchors.is_empty() {
            return 0;
        }
        unix_millis.saturating_sub(self.unix_millis(Position(u64::MAX), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_follow_the_anchor_before_them() {
        let mut times = WallTimes::default();
        times.anchor(Position(10), Millis(100), 1_000_000);
        times.anchor(Position(20), Millis(500), 9_000_000);
        assert_eq!(times.unix_millis(Position(0), Millis(50)), 999_950);
        assert_eq!(times.unix_millis(Position(19), Millis(499)), 1_000_399);
        assert_eq!(times.unix_millis(Position(21), Millis(501)), 9_000_001);
        assert_eq!(iso(1_500), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_later_life_does_not_move_what_an_earlier_one_told() {
        let mut times = WallTimes::default();
        assert_eq!(times.elapsed(Millis(7), 5_000_000), 0, "nothing is known");
        times.anchor(Position(10), Millis(0), 1_000_000);
        // The last record of the first life, and its deadline of eight seconds.
        let (submitted, deadline) = (Millis(300), Millis(8_300));
        let told =
            |times: &WallTimes| [submitted, deadline].map(|at| times.unix_millis(Position(11), at));
        assert_eq!(told(&times), [1_000_300, 1_008_300]);
        // The next life begins where core's time stopped, twelve seconds of the wall later.
        assert_eq!(times.elapsed(submitted, 1_012_300), 12_000);
        times.anchor(Position(12), submitted, 1_012_300);
        assert_eq!(told(&times), [1_000_300, 1_008_300]);
        assert_eq!(times.unix_millis(Position(13), Millis(301)), 1_012_301);
        assert_eq!(times.elapsed(Millis(301), 4), 0, "the wall was set back");
    }
    #[test]
    fn a_wall_clock_moved_by_a_day_moves_nothing_that_was_told() {
        const DAY_MILLIS: u64 = 86_400_000;
        let began = 20_000 * DAY_MILLIS;
        let mut times = WallTimes::default();
        times.anchor(Position(1), Millis(0), began);
        let told = |times: &WallTimes| times.unix_millis(Position(2), Millis(1_000));
        assert_eq!(told(&times), began + 1_000);
        // Set ahead in the middle of a life: told from there on only.
        times.anchor(Position(3), Millis(2_000), began + 2_000 + DAY_MILLIS);
        assert_eq!(told(&times), began + 1_000);
        assert_eq!(
            times.unix_millis(Position(4), Millis(3_000)),
            began + 3_000 + DAY_MILLIS
        );
        // Set back again while nobody was here: no time has passed, and none is taken back.
        assert_eq!(times.elapsed(Millis(3_000), began + 4_000), 0);
        times.anchor(Position(5), Millis(3_000), began + 4_000);
        assert_eq!(told(&times), began + 1_000);
        assert_eq!(times.unix_millis(Position(6), Millis(3_500)), began + 4_500);
    }
}

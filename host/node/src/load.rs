//! How busy the machine is, from `/proc`. Where that is missing, everything reads as idle.

use std::fs;

/// Reads the machine's counters and gives differences.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    busy: u64,
    total: u64,
    own: u64,
}

/// Use of the machine since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Use {
    /// Share of all cores that was busy, 0 to 1.
    pub(crate) cpu: f64,
    /// Share of all cores that processes other than ours used, 0 to 1.
    pub(crate) others: f64,
    /// Memory of this process and its children, in MiB.
    pub(crate) memory_mib: u32,
}

impl Meter {
    /// Looks at the machine and at this process with its `children`.
    pub(crate) fn look(&mut self, children: &[u32]) -> Use {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (busy, total) = machine(&stat).unwrap_or((self.busy, self.total));
        let pids = || children.iter().copied().chain([std::process::id()]);
        let own: u64 = pids()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
            .filter_map(|stat| process(&stat))
            .sum();
        let pages: u64 = pids()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/statm")).ok())
            .filter_map(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok())
            .sum();
        let first = self.total == 0;
        let share = |now: u64, before: u64| {
            let total = total.saturating_sub(self.total);
            if first || total == 0 {
                0.0
            } else {
                (now.saturating_sub(before) as f64 / total as f64).min(1.0)
            }
        };
        let cpu = share(busy, self.busy);
        // A child that ended takes its time along: our share then reads too small for one look.
        let others = (cpu - share(own, self.own)).max(0.0);
        *self = Self { busy, total, own };
        let page = rustix::param::page_size() as u64;
        Use {
            cpu,
            others,
            memory_mib: ((pages * page) >> 20).min(u32::MAX.into()) as u32,
        }
    }
}

/// Busy and total ticks of all cores, from `/proc/stat`.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; the guest columns are in user already.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((total - idle, total))
}

/// User and system ticks of one process, from `/proc/PID/stat`.
fn process(stat: &str) -> Option<u64> {
    // The name is in parentheses and may hold anything; the fields start behind the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Slots to offer when other programs use `others` (0 to 1) of `cores`: what they leave free, but at
/// least one, so that nothing starves.
pub(crate) fn slots_beside(others: f64, cores: usize, slots: u16) -> u16 {
    let free = cores as f64 * (1.0 - others);
    // A core that is half used by others still counts.
    (free + 0.5).floor().clamp(1.0, f64::from(slots.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        let stat = "cpu  10 1 5 80 4 0 0 0 7 7\ncpu0 1 2 3\n";
        assert_eq!(machine(stat), Some((16, 100)));
        assert_eq!(machine("cpu  x"), None);
        let stat = "12 (a) b) c) S 1 1 1 0 -1 4194560 1 2 3 4 17 5 0 0 20 0 1 0";
        assert_eq!(process(stat), Some(22));
        let mut meter = Meter::default();
        assert_eq!(meter.look(&[]).cpu, 0.0);
        let busy = std::time::Instant::now();
        while busy.elapsed().as_millis() < 200 {}
        let used = meter.look(&[]);
        assert!(used.cpu > 0.0 && used.cpu <= 1.0, "{used:?}");
        assert!(used.memory_mib > 0, "{used:?}");
    }

    #[test]
    fn slots_follow_what_others_leave() {
        assert_eq!(slots_beside(0.0, 8, 8), 8);
        assert_eq!(slots_beside(0.5, 8, 8), 4);
        assert_eq!(slots_beside(1.0, 8, 8), 1);
        assert_eq!(slots_beside(0.0, 8, 2), 2);
        assert_eq!(slots_beside(0.2, 2, 2), 2);
    }
}

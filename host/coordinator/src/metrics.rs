//! Counters for `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_net::listen::{ListenStats, ListenWatch};

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of this life of the coordinator. What outlives it is counted by the views.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Events that core handled.
    pub(crate) events: Counter,
    /// Records written.
    pub(crate) records: Counter,
    /// Batches written; records divided by this is the size of a group.
    pub(crate) commits: Counter,
    /// Sessions of nodes that began.
    pub(crate) sessions: Counter,
    /// Sessions that ended because the node was silent.
    pub(crate) silent: Counter,
    /// Sessions that were refused or ended for a violation.
    pub(crate) refused_sessions: Counter,
    /// Reports that did not fit their task, or whose signature was wrong.
    pub(crate) refused_reports: Counter,
    /// Heartbeats.
    pub(crate) heartbeats: Counter,
    /// Requests to the API.
    pub(crate) requests: Counter,
    /// Requests that were refused, whoever was to blame.
    pub(crate) refused_requests: Counter,
    /// Events that slow readers of event streams did not get.
    pub(crate) missed_events: Counter,
    /// Starts of the local host.
    pub(crate) local_starts: Counter,
    /// Blobs and input sets that nobody needed and that were removed, and their bytes.
    pub(crate) files_removed: Counter,
    pub(crate) file_bytes_removed: Counter,
    /// Files that were found damaged.
    pub(crate) files_damaged: Counter,
    /// Looks at every file for those that nobody needs.
    pub(crate) sweeps: Counter,
    /// The listeners, which count by themselves.
    listeners: Mutex<Vec<ListenWatch>>,
}

/// Text in the exposition format of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, help, "counter", value);
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, help, "gauge", value);
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str, value: u64) {
        // Writing into a string does not fail.
        let _ = writeln!(
            self.0,
            "# HELP hearth_{name} {help}\n# TYPE hearth_{name} {kind}\nhearth_{name} {value}"
        );
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Metrics {
    /// Adds a listener's counts.
    pub(crate) fn watch(&self, listener: ListenWatch) {
        self.listeners().push(listener);
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<ListenWatch>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write_listeners(&self, out: &mut Exposition) {
        let stats: Vec<_> = self.listeners().iter().map(ListenWatch::stats).collect();
        let sum = |count: fn(&ListenStats) -> u64| stats.iter().map(count).sum();
        for (name, help, count) in [
            (
                "connections_accepted_total",
                "Connections whose handshake ended well.",
                sum(|stats| stats.accepted),
            ),
            (
                "connections_refused_prefix_total",
                "Connections reset because their network prefix had too many.",
                sum(|stats| stats.refused_prefix),
            ),
            (
                "handshakes_failed_total",
                "Handshakes that failed.",
                sum(|stats| stats.failed_handshake),
            ),
            (
                "handshakes_timed_out_total",
                "Handshakes that took too long.",
                sum(|stats| stats.timed_out),
            ),
            (
                "accept_errors_total",
                "Times that the system gave no connection, for want of descriptors for example.",
                sum(|stats| stats.accept_errors),
            ),
        ] {
            out.counter(name, help, count);
        }
        for (name, help, count) in [
            (
                "connections",
                "Connections now.",
                sum(|stats| stats.connections),
            ),
            (
                "connections_pending",
                "Connections now whose handshake has not ended.",
                sum(|stats| stats.pending),
            ),
        ] {
            out.gauge(name, help, count);
        }
    }

    /// Adds all counters.
    pub(crate) fn write(&self, out: &mut Exposition) {
        for (name, help, counter) in [
            ("events_total", "Events that core handled.", &self.events),
            (
                "records_total",
                "Records written to the journal.",
                &self.records,
            ),
            ("commits_total", "Groups of records written.", &self.commits),
            (
                "sessions_total",
                "Sessions of nodes that began.",
                &self.sessions,
            ),
            (
                "sessions_silent_total",
                "Sessions ended by silence.",
                &self.silent,
            ),
            (
                "sessions_refused_total",
                "Sessions refused or ended for a violation.",
                &self.refused_sessions,
            ),
            (
                "reports_refused_total",
                "Reports that were not believed.",
                &self.refused_reports,
            ),
            ("heartbeats_total", "Heartbeats of nodes.", &self.heartbeats),
            ("requests_total", "Requests to the API.", &self.requests),
            (
                "requests_refused_total",
                "Requests to the API that were refused.",
                &self.refused_requests,
            ),
            (
                "events_missed_total",
                "Events that slow readers did not get.",
                &self.missed_events,
            ),
            (
                "local_host_starts_total",
                "Starts of the local host.",
                &self.local_starts,
            ),
            (
                "files_removed_total",
                "Blobs and input sets removed because nobody needed them.",
                &self.files_removed,
            ),
            (
                "file_bytes_removed_total",
                "Their bytes.",
                &self.file_bytes_removed,
            ),
            (
                "files_damaged_total",
                "Files that were found damaged.",
                &self.files_damaged,
            ),
            (
                "sweeps_total",
                "Looks at every file for those that nobody needs.",
                &self.sweeps,
            ),
        ] {
            out.counter(name, help, counter.get());
        }
        self.write_listeners(out);
    }
}

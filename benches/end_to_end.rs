//! The whole system on one machine: coordinator, nodes and load over TLS, journal on disk.
//!
//! Real processes of this build, distinct inputs, every output checked: rates with and without a sandbox,
//! latency when idle and under load, and where the time of a task goes. Prints one JSON array of figures;
//! `cargo xtask bench` judges it. `--quick` does a tenth.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth::client::Client;
use hearth_wire::ReleaseId;
use hearth_wire::api::{JobEvent, JobState};
use support::jobs::{self, add_inputs, check, ended, submit, submit_inputs};
use support::process::{cpu_by_thread, descendants};
use support::puppet::{Answer, Deeds, Puppet, members};
use support::{Figures, Realm, percentile};

/// Tasks of a job that makes load: small, so that the load comes evenly.
const LOAD_TASKS: u64 = 200;
/// Clients that find out how much load is possible at all.
const LOAD_CLIENTS: u64 = 8;
/// The share of it that counts as load.
const LOAD: f64 = 0.7;

#[tokio::main]
async fn main() {
    let mut figures = Figures::default();
    if std::env::args().any(|arg| arg == "--rates") {
        rates(&mut figures).await;
        return figures.print();
    }
    sandboxed(&mut figures).await;
    null(&mut figures).await;
    figures.print();
}

/// A realm with two nodes that work, and what they ran for how long.
struct Working {
    realm: Realm,
    client: Client,
    release: ReleaseId,
}

/// Tasks a second, and where their time goes.
async fn rates(figures: &mut Figures) -> Working {
    let (tasks, rounds) = match support::quick() {
        true => (2_000, 1),
        false => (20_000, 3),
    };
    let mut realm = Realm::new();
    let coordinator = realm.start_coordinator().id();
    let nodes = ["one", "two"].map(|name| realm.start_node(name));
    let nodes = nodes.map(|at| realm.process(at).id());
    let client = realm.client();
    realm.volunteers(&client, 2).await;
    let release = jobs::echo(&realm, &client).await;
    // The first job compiles the component on both nodes.
    let warm = submit(&client, release, 0, 200).await;
    ended(&client, warm).await;

    let before = Cpu::of(coordinator, &nodes);
    let mut rates = Vec::new();
    for round in 1..=rounds {
        rates.push(rate(&client, release, round, tasks).await);
    }
    let spent = Cpu::of(coordinator, &nodes).since(&before, tasks * rounds);
    let rate = percentile(&mut rates, 0.5);
    let name = "sandboxed tasks end to end, 64 B, 2 nodes";
    figures.at_least(name, rate, "1/s", 5_000.0, 20_000.0);
    spent.tell(figures);
    Working {
        realm,
        client,
        release,
    }
}

async fn sandboxed(figures: &mut Figures) {
    let working = rates(figures).await;
    let Working {
        realm,
        client,
        release,
    } = working;
    let probes = if support::quick() { 50 } else { 400 };
    let mut idle = Vec::new();
    for number in 0..probes {
        idle.push(probe(&client, release, 1_000_000 + number).await);
    }
    let (p50, p99) = (percentile(&mut idle, 0.5), percentile(&mut idle, 0.99));
    figures.at_most("submit to result, idle, p50", p50, "ms", 2.0, 1.0);
    figures.at_most("submit to result, idle, p99", p99, "ms", 6.0, 3.0);

    let snapshots = realm.dir().join("data/snapshots");
    let most = most_of_small(&realm, release).await;
    let figure = format!("the most of such tasks in jobs of {LOAD_TASKS}");
    figures.info(&figure, most, "1/s");
    let (mut loaded, written) = under_load(&realm, release, most * LOAD, &snapshots).await;
    let (p50, p99) = (percentile(&mut loaded, 0.5), percentile(&mut loaded, 0.99));
    figures.info("the same at 70 % load, snapshots beside it, p50", p50, "ms");
    let name = "the same at 70 % load, snapshots beside it, p99";
    figures.at_most(name, p99, "ms", 30.0, 10.0);
    figures.info("snapshots written meanwhile", written as f64, "");
}

/// Tasks a second of one job, whose outputs are checked.
async fn rate(client: &Client, release: ReleaseId, number: u64, tasks: u64) -> f64 {
    let begun = Instant::now();
    let job = submit(client, release, number, tasks).await;
    ended(client, job).await;
    let rate = tasks as f64 / begun.elapsed().as_secs_f64();
    check(client, job, number, tasks).await;
    rate
}

/// The most tasks a second of jobs like those that make load, by clients each of which submits the next job
/// when one has ended.
async fn most_of_small(realm: &Realm, release: ReleaseId) -> f64 {
    let jobs = if support::quick() { 5 } else { 50 };
    let begun = Instant::now();
    let clients: Vec<_> = (0..LOAD_CLIENTS)
        .map(|number| {
            let client = realm.client();
            tokio::spawn(async move {
                for job in 0..jobs {
                    let number = 4_000_000 + number * jobs + job;
                    let job = submit(&client, release, number, LOAD_TASKS).await;
                    ended(&client, job).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    (LOAD_CLIENTS * jobs * LOAD_TASKS) as f64 / begun.elapsed().as_secs_f64()
}

/// Milliseconds from the submission of one task until its result is told.
async fn probe(client: &Client, release: ReleaseId, number: u64) -> f64 {
    let inputs = add_inputs(client, number, 1).await;
    let begun = Instant::now();
    let job = submit_inputs(client, release, inputs).await;
    let mut events = client.events(job).await.unwrap();
    let mut millis = None;
    // To the end, so that the connection serves the next one.
    while let Some(event) = events.next().await {
        let told = match event.unwrap() {
            JobEvent::Result(result) => {
                let expected = hearth_wire::Digest::of(&jobs::input(number, 0));
                assert_eq!(result.result.metadata.output_digest, Some(expected));
                true
            }
            JobEvent::Job(status) => status.state != JobState::Open,
            _ => false,
        };
        if told {
            millis.get_or_insert(begun.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    millis.unwrap()
}

/// Probes while jobs come at `rate` tasks a second, for as long as it takes until snapshots were written.
async fn under_load(
    realm: &Realm,
    release: ReleaseId,
    rate: f64,
    snapshots: &std::path::Path,
) -> (Vec<f64>, usize) {
    let (least, most) = match support::quick() {
        true => (Duration::from_secs(3), Duration::from_secs(3)),
        false => (Duration::from_secs(30), Duration::from_secs(120)),
    };
    let load = realm.client();
    let every = Duration::from_secs_f64(LOAD_TASKS as f64 / rate);
    let load = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        let mut number = 2_000_000;
        loop {
            ticks.tick().await;
            number += 1;
            submit(&load, release, number, LOAD_TASKS).await;
        }
    });
    let client = realm.client();
    let (begun, mut number) = (Instant::now(), 3_000_000);
    let mut seen = std::collections::BTreeSet::new();
    let mut names = || {
        let entries = std::fs::read_dir(snapshots).into_iter().flatten().flatten();
        seen.extend(entries.map(|entry| entry.file_name()));
        seen.len()
    };
    let before = names();
    let mut millis = Vec::new();
    let enough = |written: usize, begun: Instant| {
        begun.elapsed() > most || written >= 2 && begun.elapsed() > least
    };
    while !enough(names() - before, begun) {
        number += 1;
        millis.push(probe(&client, release, number).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    load.abort();
    (millis, names() - before)
}

async fn null(figures: &mut Figures) {
    let (tasks, rounds) = match support::quick() {
        true => (20_000, 1),
        false => (100_000, 3),
    };
    let mut realm = Realm::new();
    realm.start_coordinator();
    let deeds = Arc::new(Deeds::default());
    for member in members(&realm.dir(), 2) {
        let puppet = Puppet {
            member: Arc::new(member),
            address: realm.address.clone(),
            slots: 4,
            answer: Answer::Input,
            deeds: Arc::clone(&deeds),
            leases: None,
        };
        tokio::spawn(puppet.live());
    }
    let client = realm.client();
    realm.volunteers(&client, 2).await;
    let release = jobs::echo(&realm, &client).await;
    let mut rates = Vec::new();
    for round in 1..=rounds {
        rates.push(rate(&client, release, round, tasks).await);
    }
    let rate = percentile(&mut rates, 0.5);
    let name = "null tasks end to end, 64 B, 2 nodes";
    figures.at_least(name, rate, "1/s", 20_000.0, 80_000.0);
}

/// CPU seconds by stage.
#[derive(Default)]
struct Cpu(BTreeMap<&'static str, f64>);

impl Cpu {
    fn of(coordinator: u32, nodes: &[u32]) -> Self {
        let mut all = Self::default();
        for (thread, seconds) in cpu_by_thread(coordinator) {
            let stage = match thread.as_str() {
                "hearth-driver" => "core and journal (driver)",
                "hearth-sync" => "journal (sync)",
                "hearth-snapshot" => "snapshot",
                _ => "accept, wire, views (coordinator's workers)",
            };
            *all.0.entry(stage).or_default() += seconds;
        }
        for node in nodes {
            *all.0.entry("node").or_default() += cpu_by_thread(*node).values().sum::<f64>();
            for child in descendants(*node) {
                let seconds = cpu_by_thread(child).values().sum::<f64>();
                *all.0.entry("runner and sandbox").or_default() += seconds;
            }
        }
        let own = cpu_by_thread(std::process::id()).values().sum();
        all.0.insert("client (this bench)", own);
        all
    }

    /// Microseconds of each of `tasks` since an earlier look.
    fn since(mut self, before: &Self, tasks: u64) -> Self {
        for (stage, seconds) in &mut self.0 {
            let before = before.0.get(stage).copied().unwrap_or_default();
            *seconds = (*seconds - before) * 1e6 / tasks as f64;
        }
        self
    }

    fn tell(&self, figures: &mut Figures) {
        for (stage, micros) in &self.0 {
            figures.info(&format!("CPU of a task: {stage}"), *micros, "us");
        }
    }
}

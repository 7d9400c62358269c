//! How soon the work of a node that is gone is leased again: killed, and silent.
//!
//! Real nodes run guests that never end; their leases move to a node of this process, which notes when.
//! Prints one JSON array of figures; `cargo xtask bench` judges it. `--quick` does a tenth.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth::client::Client;
use hearth_wire::JobId;
use support::process::signal;
use support::puppet::{Answer, Deeds, Leased, Puppet, members};
use support::{Figures, PATIENCE, Realm, jobs, percentile};
use tokio::sync::mpsc;

/// Tasks in each trial: a node with one core holds a few.
const TASKS: u64 = 8;

#[tokio::main]
async fn main() {
    let (kills, silences) = if support::quick() { (3, 1) } else { (25, 5) };
    let mut realm = Realm::new();
    realm.start_coordinator();
    let client = realm.client();
    let release = jobs::spin(&realm, &client).await;
    let mut figures = Figures::default();
    let (mut killed, mut silent) = (Vec::new(), Vec::new());
    for number in 0..kills + silences {
        let trial = Trial::begin(&mut realm, &client, release, number).await;
        if number < kills {
            killed.extend(trial.after("KILL").await);
        } else {
            silent.extend(trial.after("STOP").await);
        }
    }
    let p99 = percentile(&mut killed, 0.99) * 1_000.0;
    let name = "kill -9 of a node until its tasks are leased again, p99";
    figures.at_most(name, p99, "ms", 100.0, 50.0);
    figures.info("tasks leased again after kills", killed.len() as f64, "");
    let slowest = percentile(&mut silent, 1.0);
    let name = "silent node until its tasks are leased again, slowest";
    figures.at_most(name, slowest, "s", 2.5, 1.6);
    figures.print();
}

/// A node that holds tasks, and another that waits for them.
struct Trial<'realm> {
    realm: &'realm mut Realm,
    client: &'realm Client,
    job: JobId,
    node: usize,
    held: usize,
    leases: mpsc::UnboundedReceiver<Leased>,
    waiting: tokio::task::JoinHandle<()>,
}

impl<'realm> Trial<'realm> {
    async fn begin(
        realm: &'realm mut Realm,
        client: &'realm Client,
        release: hearth_wire::ReleaseId,
        number: u64,
    ) -> Self {
        let node = realm.start_node(&format!("node-{number}"));
        realm.volunteers(client, 1).await;
        let job = jobs::submit(client, release, number, TASKS).await;
        let begun = Instant::now();
        // The node has what it will get when nothing has changed for a while.
        let (mut held, mut since) = (0, Instant::now());
        while held == 0 || since.elapsed() < Duration::from_millis(300) {
            assert!(begun.elapsed() < PATIENCE, "the node got nothing");
            let counts = client.job(job, None).await.unwrap().counts;
            let leased = counts.leased as usize;
            if leased != held {
                (held, since) = (leased, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (tell, mut leases) = mpsc::unbounded_channel();
        let member = members(&realm.dir(), 1).remove(0);
        let puppet = Puppet {
            member: Arc::new(member),
            address: realm.address.clone(),
            slots: TASKS as u16,
            answer: Answer::Nothing,
            deeds: Arc::new(Deeds::default()),
            leases: Some(tell),
        };
        let waiting = tokio::spawn(puppet.live());
        realm.volunteers(client, 2).await;
        // What the first node does not hold goes to the second at once; the first one's stay.
        tokio::time::sleep(Duration::from_millis(300)).await;
        while leases.try_recv().is_ok() {}
        Self {
            realm,
            client,
            job,
            node,
            held,
            leases,
            waiting,
        }
    }

    /// Seconds from the signal until each task of the node is leased again.
    async fn after(mut self, name: &str) -> Vec<f64> {
        let begun = Instant::now();
        signal(self.realm.process(self.node).id(), name);
        let mut seconds = Vec::new();
        while seconds.len() < self.held {
            let leased = tokio::time::timeout(PATIENCE, self.leases.recv());
            let (at, _, _) = leased.await.expect("never leased again").unwrap();
            seconds.push(at.duration_since(begun).as_secs_f64());
        }
        self.client.cancel(self.job).await.unwrap();
        self.waiting.abort();
        // Also a stopped one: it must not come back.
        self.realm.process(self.node).kill();
        let begun = Instant::now();
        while self.client.modes().await.unwrap().volunteers > 0 {
            assert!(begun.elapsed() < PATIENCE, "the nodes do not go");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seconds
    }
}

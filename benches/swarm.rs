//! Many nodes: what they cost while idle, and how soon all work again when they come back at once.
//!
//! One coordinator process; the nodes are tasks of this process with connections and certificates of their
//! own. Prints one JSON array of figures; `cargo xtask bench` judges it. `--quick` does a tenth.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::process::{anonymous_bytes, cpu};
use support::puppet::{Answer, Deeds, Member, Puppet, members};
use support::{Figures, Realm, jobs};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let mut figures = Figures::default();
    queued(&mut figures).await;
    idle(&mut figures).await;
    storm(&mut figures).await;
    figures.print();
}

/// Memory of tasks that wait.
async fn queued(figures: &mut Figures) {
    let (tasks, count) = match support::quick() {
        true => (20_000, 5),
        false => (200_000, 5),
    };
    let mut realm = Realm::new();
    let coordinator = realm.start_coordinator().id();
    let client = realm.client();
    let release = jobs::echo(&realm, &client).await;
    // What the first submission makes for good is not the tasks'.
    jobs::submit(&client, release, 0, 1).await;
    let before = anonymous_bytes(coordinator);
    for job in 1..=count {
        jobs::submit(&client, release, job, tasks).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = anonymous_bytes(coordinator).saturating_sub(before);
    let each = grown as f64 / (tasks * count) as f64;
    figures.at_most("memory of a queued task", each, "B", 200.0, 100.0);
}

/// Nodes that do nothing but say that they are there.
async fn idle(figures: &mut Figures) {
    let count = if support::quick() { 500 } else { 5_000 };
    let mut realm = Realm::new();
    let coordinator = realm.start_coordinator().id();
    let all = members(&realm.dir(), count);
    let before = anonymous_bytes(coordinator);
    let deeds = Arc::new(Deeds::default());
    let mut swarm = swarm(&realm, all, 1, Answer::Nothing, &deeds);
    let begun = Instant::now();
    Deeds::reach(&deeds.welcomes, count as u64).await;
    let joined = count as f64 / begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (begun, used) = (Instant::now(), cpu(coordinator));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu(coordinator) - used) / begun.elapsed().as_secs_f64();
    let memory = anonymous_bytes(coordinator).saturating_sub(before) as f64 / count as f64;
    let lost = deeds.losses.load(std::sync::atomic::Ordering::Relaxed);
    assert!(swarm.try_join_next().is_none());
    figures.info("nodes that join from nothing", joined, "1/s");
    let name = format!("{count} idle nodes: share of one core");
    figures.at_most(&name, share * 100.0, "%", 20.0, 8.0);
    let kib = memory / 1024.0;
    figures.at_most("memory of an idle node", kib, "KiB", 64.0, 25.0);
    figures.info("connections lost meanwhile", lost as f64, "");
}

/// The coordinator is killed under its nodes and starts again.
async fn storm(figures: &mut Figures) {
    let count = if support::quick() { 200 } else { 2_000 };
    let mut realm = Realm::new();
    realm.start_coordinator();
    let all = members(&realm.dir(), count);
    let deeds = Arc::new(Deeds::default());
    let _swarm = swarm(&realm, all, 1, Answer::Input, &deeds);
    Deeds::reach(&deeds.welcomes, count as u64).await;
    let client = realm.client();
    let release = jobs::echo(&realm, &client).await;
    realm.process(0).kill();
    let begun = Instant::now();
    realm.start_coordinator();
    let listening = begun.elapsed().as_secs_f64();
    let client_again = realm.client();
    // Work for all, for as long as it takes until the last has come.
    let (mut job, mut open) = (1, None);
    let working = count as u64;
    while deeds.leased.load(std::sync::atomic::Ordering::Relaxed) < working {
        assert!(begun.elapsed() < support::PATIENCE);
        let over = match open {
            Some(id) => {
                let status = client_again.job(id, None).await.unwrap();
                status.state != hearth_wire::api::JobState::Open
            }
            None => true,
        };
        if over {
            open = Some(jobs::submit(&client_again, release, job, 20_000).await);
            job += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    figures.info("restart of an idle coordinator", listening, "s");
    let name = format!("join storm, {count} nodes: all working again");
    figures.at_most(&name, seconds, "s", 15.0, 5.0);
}

fn swarm(
    realm: &Realm,
    members: Vec<Member>,
    slots: u16,
    answer: Answer,
    deeds: &Arc<Deeds>,
) -> JoinSet<()> {
    let puppets = members.into_iter().map(|member| Puppet {
        member: Arc::new(member),
        address: realm.address.clone(),
        slots,
        answer,
        deeds: Arc::clone(deeds),
        leases: None,
    });
    puppets.map(Puppet::live).collect()
}

//! What was acknowledged is never lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hearth_identity::RealmDir;
use hearth_store::{DirLock, Journal, JournalConfig};
use hearth_wire::record::{Fact, Record, Verdict};
use hearth_wire::{TaskId, codec, limits};
use serde_json::{Value, json};

use crate::support::{Realm, eventually, guest};

/// A few seconds of work.
const EXPONENTS: [u64; 8] = [4253, 4423, 4259, 4261, 4271, 4273, 4283, 4289];

#[test]
fn acknowledged_jobs_survive_kill_nine() {
    let mut realm = Realm::without_local_host();
    let _node = realm.volunteer("ada", &[]);
    let mut jobs = BTreeSet::new();
    for round in 0..3 {
        let key = format!("round-{round}");
        jobs.insert(realm.submit_mersenne(&EXPONENTS[..4], &["--idempotency-key", &key]));
        realm.coordinator.as_mut().unwrap().kill();
        realm.start_coordinator(&["--no-local-host"]);
        // The client did not hear the answer and asks again: it is the same job.
        let again = realm.submit_mersenne(&EXPONENTS[..4], &["--idempotency-key", &key]);
        assert!(jobs.contains(&again), "{again} is new");
    }
    for job in &jobs {
        realm.ok(&["wait", job, "--timeout", "80"]);
        let results = realm.json(&["results", job]);
        assert_eq!(results.len(), 4);
        assert!(results.iter().all(|result| result["state"] == "settled"));
    }
}

#[test]
fn a_node_delivers_what_it_finished_while_the_coordinator_was_away() {
    let mut realm = Realm::without_local_host();
    let _node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&EXPONENTS[..2], &[]);
    eventually("a lease", || {
        let list = &realm.json(&["jobs"])[0]["jobs"];
        (list[0]["counts"]["leased"].as_u64()? > 0).then_some(())
    });
    realm.coordinator.as_mut().unwrap().kill();
    std::thread::sleep(std::time::Duration::from_secs(3));
    realm.start_coordinator(&["--no-local-host"]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    let status = realm.json(&["jobs"])[0]["jobs"][0].clone();
    assert_eq!(status["counts"]["settled"], 2);
    assert_eq!(
        status["retries"], 0,
        "the leases held over the restart: {status}"
    );
}

#[test]
fn a_second_coordinator_is_refused() {
    let realm = Realm::start();
    let message = realm.fails(3, &["coordinator", "--listen", "127.0.0.1:0"]);
    assert!(
        message.contains("lock") || message.contains("another"),
        "{message}"
    );
}

#[test]
fn a_coordinator_takes_leave_on_sigterm_and_goes_on_at_the_next_start() {
    let mut realm = Realm::start();
    let _node = realm.volunteer("ada", &[]);
    let mut coordinator = realm.coordinator.take().unwrap();
    let job = realm.submit_mersenne(&[89], &[]);
    assert!(coordinator.terminate().success());
    eventually("the word of leave", || {
        let said = realm.said("ada");
        said.contains("the coordinator is shutting down")
            .then_some(())
    });
    let log = realm.said("coordinator");
    assert!(!log.contains("died") && !log.contains('\u{1b}'), "{log}");
    realm.start_coordinator(&[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

/// A small disk for a realm's journal alone: uploads are refused long before a disk is full.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Only root may mount one; elsewhere there is nothing to see.
    fn under(realm: &Realm, size: &str, settings: &str) -> Option<Self> {
        let file = realm.dir().join("hearth.toml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(settings);
        std::fs::write(&file, text).unwrap();
        let dir = realm.dir().join("data/journal");
        std::fs::create_dir_all(&dir).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&dir)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: this user may not mount a small disk");
        None
    }

    /// Lets something else fill it, to the last byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What runs ends in the room that the ballast leaves; new work waits for room, and no start is needed.
#[test]
fn what_runs_ends_on_a_full_disk_and_new_work_waits_for_room() {
    let mut realm = Realm::init();
    let settings = "\ndisk_reserve_mib = 0\nballast_mib = 1\n";
    let Some(disk) = SmallDisk::under(&realm, "4m", settings) else {
        return;
    };
    realm.start_coordinator(&["--no-local-host"]);
    assert!(disk.0.join("ballast").exists());
    let _node = realm.volunteer("ada", &[]);
    let exponents: Vec<u64> = (2_203..2_363).step_by(2).collect();
    let job = realm.submit_mersenne(&exponents, &[]);
    disk.fill();
    realm.ok(&["wait", &job, "--timeout", "100"]);
    let results = realm.json(&["results", &job]);
    assert_eq!(results.len(), exponents.len());
    assert!(results.iter().all(|result| result["state"] == "settled"));
    assert!(!disk.0.join("ballast").exists(), "it was needed");
    let log = realm.said("coordinator");
    assert_eq!(log.matches("the ballast is given up").count(), 1, "{log}");
    let component = crate::support::guest("mersenne");
    let lines = realm.path("exponents.jsonl");
    let submit = [
        "submit",
        component.to_str().unwrap(),
        "--lines",
        lines.to_str().unwrap(),
    ];
    let refused = realm.run(&submit);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    for part in ["was full", "ballast", "make room on that disk"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    disk.make_room();
    let other = eventually("new work", || {
        let output = realm.run(&[&["--json"], &submit[..]].concat());
        output.status.success().then(|| {
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            answer["job"].as_str().unwrap().to_owned()
        })
    });
    assert!(disk.0.join("ballast").exists(), "for the next time");
    realm.ok(&["wait", &other, "--timeout", "100"]);
    assert!(realm.coordinator.as_mut().unwrap().is_running());
}

#[test]
fn a_full_disk_is_told_by_name_and_loses_nothing_acknowledged() {
    let mut realm = Realm::init();
    let settings = "\ndisk_reserve_mib = 0\nballast_mib = 0\n";
    let Some(disk) = SmallDisk::under(&realm, "256k", settings) else {
        return;
    };
    realm.start_coordinator(&["--no-local-host"]);
    let mut acknowledged = Vec::new();
    acknowledged.push(realm.submit_mersenne(&[89, 107], &[]));
    // What comes then is refused or not acknowledged.
    disk.fill();
    let component = crate::support::guest("mersenne");
    let lines = realm.path("exponents.jsonl");
    let begun = Instant::now();
    while realm.coordinator.as_mut().unwrap().is_running() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never full");
        let args = [
            "--json",
            "submit",
            component.to_str().unwrap(),
            "--lines",
            lines.to_str().unwrap(),
        ];
        let output = realm.run(&args);
        if output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap();
            let answer: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            acknowledged.push(answer["job"].as_str().unwrap().to_owned());
        }
    }
    let log = realm.said("coordinator");
    for part in [
        ".journal",
        "os error 28",
        "operator",
        "nothing that was acknowledged is lost",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("defect"), "{log}");
    disk.make_room();
    realm.start_coordinator(&["--no-local-host"]);
    let jobs = &realm.json(&["jobs"])[0]["jobs"];
    for job in &acknowledged {
        assert!(
            jobs.as_array()
                .unwrap()
                .iter()
                .any(|one| one["job"] == **job),
            "{job}: {jobs}"
        );
    }
}

#[test]
fn a_program_that_was_replaced_on_disk_goes_on_with_itself() {
    let mut realm = Realm::init();
    let program = realm.path("hearth");
    std::fs::copy(crate::support::HEARTH, &program).unwrap();
    realm.start_coordinator_of(&program, &[]);
    // Another version takes the name, which would not understand this one.
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    let local = |realm: &Realm| realm.json(&["nodes"])[0]["nodes"][0]["connected"] == true;
    eventually("the local host", || local(&realm).then_some(()));
    let before = crate::support::descendants(realm.coordinator.as_ref().unwrap().id());
    let host = before.first().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &host])
            .status()
            .unwrap()
            .success()
    );
    let job = realm.submit_mersenne(&[89], &[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

#[test]
fn a_lost_data_folder_is_told_to_those_who_wait_with_the_way_out() {
    let mut realm = Realm::start();
    let local = |realm: &Realm| realm.json(&["nodes"])[0]["nodes"][0]["connected"] == true;
    eventually("the local host", || local(&realm).then_some(()));
    let mut coordinator = realm.coordinator.take().unwrap();
    assert!(coordinator.terminate().success());
    std::fs::remove_dir_all(realm.dir().join("data")).unwrap();
    realm.start_coordinator(&[]);
    let job = realm.submit_mersenne(&[89], &[]);
    let next = eventually("the trouble", || {
        let job = &realm.json(&["jobs"])[0]["jobs"][0];
        (job["trouble"]["code"] == "coordinator-older-than-seen")
            .then(|| job["trouble"]["next"].as_str().unwrap().to_owned())
    });
    let epoch = realm.dir().join("local/epoch");
    assert!(next.contains(epoch.to_str().unwrap()), "{next}");
    assert!(
        realm.said("coordinator").contains(&next),
        "the log says so too"
    );
    assert!(realm.coordinator.take().unwrap().terminate().success());
    std::fs::remove_file(epoch).unwrap();
    realm.start_coordinator(&[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

#[test]
fn a_drained_local_host_stays_away_until_the_next_start() {
    let mut realm = Realm::start();
    let local = |realm: &Realm| realm.json(&["nodes"])[0]["nodes"][0]["connected"] == true;
    eventually("the local host", || local(&realm).then_some(()));
    realm.ok(&["nodes", "--drain", "local"]);
    eventually("its end", || (!local(&realm)).then_some(()));
    std::thread::sleep(Duration::from_secs(4));
    assert!(!local(&realm), "it came back by itself");
    let job = realm.submit_mersenne(&[89], &[]);
    let status = realm.json(&["jobs"])[0]["jobs"][0].clone();
    assert_eq!(status["trouble"]["code"], "local-host-drained", "{status}");
    assert!(realm.coordinator.take().unwrap().terminate().success());
    realm.start_coordinator(&[]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
}

/// Kills the coordinator again and again at moments drawn from a seed while a client submits, and
/// judges by the client's own log. `cargo xtask crash --kills N` runs the long form.
#[test]
fn kills_under_load_lose_no_acknowledged_task() {
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (kills, mut seed): (u64, u64) = (number("HEARTH_KILLS", 4), number("HEARTH_SEED", 1));
    let mut realm = Realm::without_local_host();
    let _nodes = [realm.volunteer("ada", &[]), realm.volunteer("grace", &[])];
    let stop = AtomicBool::new(false);
    let (mut restarts, mut in_recovery) = (Vec::new(), 0);
    let (acknowledged, seen) = std::thread::scope(|scope| {
        let (client, stop) = (Client::of(&realm), &stop);
        let reader = Client::of(&realm);
        let load = scope.spawn(move || client.submit_until(stop));
        let look = scope.spawn(move || reader.look_until(stop));
        for kill in 0..kills {
            // xorshift64*: where in the work the next kill falls.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            std::thread::sleep(Duration::from_millis(seed % 700));
            realm.coordinator.as_mut().unwrap().kill();
            // One kill in four is followed by another, into the recovery from the first.
            if kill % 4 == 3 {
                let program = std::path::Path::new(crate::support::HEARTH);
                let mut recovering = realm.spawn_coordinator(program, &["--no-local-host"]);
                std::thread::sleep(Duration::from_millis(seed / 700 % 60));
                recovering.kill();
                in_recovery += 1;
            }
            let begun = Instant::now();
            realm.start_coordinator(&["--no-local-host"]);
            restarts.push(begun.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        (load.join().unwrap(), look.join().unwrap())
    });
    assert!(!acknowledged.is_empty(), "the client got something through");
    let (mut tasks, mut lost, mut changed) = (0, 0, 0);
    for (job, expected) in &acknowledged {
        realm.run(&["wait", job, "--timeout", "120"]);
        let results = results(&realm.json(&["results", job]));
        lost += expected - results.len().min(*expected);
        changed += seen
            .iter()
            .filter(|((of, index), digest)| of == job && results.get(index) != Some(*digest))
            .count();
        tasks += expected;
    }
    realm.coordinator.as_mut().unwrap().kill();
    let twice = accepted(&realm)
        .values()
        .filter(|count| **count > 1)
        .count();
    restarts.sort_by(f64::total_cmp);
    let slowest = restarts.last().copied().unwrap_or_default();
    let figures = json!({
        "kills": kills + in_recovery, "kills in recovery": in_recovery,
        "jobs acknowledged": acknowledged.len(), "tasks acknowledged": tasks,
        "results seen": seen.len(), "results changed": changed,
        "tasks lost": lost, "tasks twice": twice,
        "restart p50 s": restarts[restarts.len() / 2], "restart max s": slowest,
    });
    println!("figures {figures}");
    assert_eq!(
        (lost, twice, changed),
        (0, 0, 0),
        "lost, accepted twice, changed"
    );
}

/// The digest of each output among results as `hearth results` prints them.
fn results(printed: &[Value]) -> BTreeMap<u64, String> {
    let returned = printed
        .iter()
        .filter(|result| result["result"]["metadata"]["outcome"] == "returned");
    returned
        .map(|result| {
            let digest = result["result"]["metadata"]["output_digest"].as_str();
            (
                result["index"].as_u64().unwrap(),
                digest.unwrap().to_owned(),
            )
        })
        .collect()
}

/// How often each task was accepted, by the journal's own words.
fn accepted(realm: &Realm) -> BTreeMap<TaskId, usize> {
    let dir = RealmDir::open(&realm.dir()).unwrap();
    let lock = DirLock::acquire(&dir.data_dir()).unwrap();
    let mut counts = BTreeMap::new();
    let visit = |_, bytes: &[u8]| {
        let record: Record = codec::decode(bytes, limits::FRAME_BYTES_MAX)?;
        if let Fact::Reported { reports, .. } = record.fact {
            for report in reports {
                let settled = matches!(report.verdict, Verdict::Settled);
                *counts.entry(report.task).or_default() += usize::from(settled);
            }
        }
        Ok::<_, codec::DecodeError>(())
    };
    Journal::open(&lock, JournalConfig::new(dir.realm()), visit).unwrap();
    counts
}

/// Submits small jobs one after another and remembers which were acknowledged.
struct Client {
    dir: std::path::PathBuf,
    component: std::path::PathBuf,
    lines: String,
}

impl Client {
    const EXPONENTS: [u64; 6] = [521, 523, 607, 613, 1279, 1283];

    fn of(realm: &Realm) -> Self {
        let lines: String = Self::EXPONENTS
            .iter()
            .map(|exponent| format!("{{\"exponent\": {exponent}}}\n"))
            .collect();
        Self {
            dir: realm.dir(),
            component: crate::support::guest("mersenne"),
            lines: realm.file("load.jsonl", &lines),
        }
    }

    /// Looks at what there is, and remembers each result that was shown.
    fn look_until(&self, stop: &AtomicBool) -> BTreeMap<(String, u64), String> {
        let run = |args: &[&str]| {
            let mut command = std::process::Command::new(crate::support::HEARTH);
            command
                .arg("--json")
                .args(args)
                .env("HEARTH_REALM", &self.dir);
            let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let lines = text.lines().map(serde_json::from_str::<Value>);
            // A coordinator that is killed in the middle cuts the answer off.
            lines.map_while(Result::ok).collect::<Vec<_>>()
        };
        let mut seen = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            let list = run(&["jobs"]);
            let jobs = list.first().and_then(|list| list["jobs"].as_array());
            let newest = jobs.into_iter().flatten().take(5);
            for job in newest.filter_map(|job| job["job"].as_str()) {
                for (index, digest) in results(&run(&["results", job])) {
                    seen.insert((job.to_owned(), index), digest);
                }
            }
        }
        seen
    }

    /// Job and number of tasks of everything that was acknowledged.
    fn submit_until(&self, stop: &AtomicBool) -> BTreeMap<String, usize> {
        let mut acknowledged = BTreeMap::new();
        let mut key = 0;
        while !stop.load(Ordering::Relaxed) {
            key += 1;
            let output = std::process::Command::new(crate::support::HEARTH)
                .args([
                    "--json",
                    "submit",
                    "--idempotency-key",
                    &key.to_string(),
                    "--lines",
                    &self.lines,
                ])
                .arg(&self.component)
                .env("HEARTH_REALM", &self.dir)
                .output()
                .unwrap();
            if let Ok(document) = serde_json::from_slice::<Value>(&output.stdout)
                && let Some(job) = document["job"].as_str()
            {
                assert!(
                    acknowledged
                        .insert(job.to_owned(), Self::EXPONENTS.len())
                        .is_none(),
                    "{job} was given out twice"
                );
            }
        }
        acknowledged
    }
}

/// What is printed and saved is what the result names, or nothing and why.
#[test]
fn a_harmed_output_is_refused_by_name_and_holds_up_no_other() {
    let realm = Realm::start();
    // An output that is too large to travel in a report: every word is counted in it.
    let letter = |n: u32| char::from_digit(10 + n % 20, 36).unwrap();
    let word = |n| {
        format!(
            "lampkeeper{}{}{} ",
            letter(n / 400),
            letter(n / 20),
            letter(n)
        )
    };
    let long: String = (0..1_000).map(word).collect();
    let inputs = [
        realm.file("long.txt", &long),
        realm.file("short.txt", "a lamp\n"),
    ];
    let component = guest("keywords");
    realm.ok(&[
        "submit",
        component.to_str().unwrap(),
        &inputs[0],
        &inputs[1],
    ]);
    realm.ok(&["wait", "job-1", "--timeout", "60"]);
    let whole = realm.path("whole");
    realm.ok(&["results", "job-1", "--out", whole.to_str().unwrap()]);
    let results = realm.json(&["results", "job-1"]);
    let digest = results[0]["result"]["metadata"]["output_digest"]
        .as_str()
        .unwrap();
    let path = realm
        .dir()
        .join("data/blobs")
        .join(&digest[..2])
        .join(digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let rest = realm.path("rest");
    let told = realm.fails(6, &["results", "job-1", "--out", rest.to_str().unwrap()]);
    assert!(
        told.contains(path.to_str().unwrap()) && told.contains("operator"),
        "{told}"
    );
    let saved = |folder: &Path, name| std::fs::read(folder.join(name)).ok();
    assert_eq!(saved(&rest, "000000.json"), None);
    assert_eq!(saved(&rest, "000001.json"), saved(&whole, "000001.json"));
    assert!(saved(&rest, "000001.json").is_some());
}

//! What a client computes while its realm is away counts when it is back, once.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use hearth_identity::RealmDir;
use hearth_store::{DirLock, Journal, JournalConfig};
use hearth_wire::codec;
use hearth_wire::record::{Fact, Record};
use serde_json::Value;

use crate::support::{Process, Realm, eventually, guest};

/// So many different inputs: each takes a moment to compute.
fn inputs(realm: &Realm, count: usize) -> String {
    let prime = |number: &u64| {
        (2..)
            .take_while(|f| f * f <= *number)
            .all(|f| !number.is_multiple_of(f))
    };
    let lines = (4_001..).filter(prime).take(count);
    let lines: String = lines
        .map(|exponent| format!("{{\"exponent\": {exponent}}}\n"))
        .collect();
    realm.file("inputs.jsonl", &lines)
}

/// The words of a run over them.
fn run_words(inputs: &str, more: &[&str]) -> Vec<String> {
    let component = guest("mersenne");
    let words = [
        "--json",
        "run",
        component.to_str().unwrap(),
        "--lines",
        inputs,
    ];
    let words = words.iter().chain(more);
    words.map(|word| (*word).to_owned()).collect()
}

/// A run beside the test, which writes its documents and its words into files.
struct Run {
    process: Process,
    out: PathBuf,
    err: PathBuf,
}

impl Run {
    fn start(realm: &Realm, name: &str, inputs: &str, more: &[&str]) -> Self {
        let words = run_words(inputs, more);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (out, err) = (
            realm.path(&format!("{name}.out")),
            realm.path(&format!("{name}.err")),
        );
        let mut command = realm.command(&words);
        command
            .stdout(Stdio::from(File::create(&out).unwrap()))
            .stderr(Stdio::from(File::create(&err).unwrap()));
        let process = Process::new(command.spawn().unwrap());
        Self { process, out, err }
    }

    /// Whole documents so far.
    fn documents(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    fn until_said(&self, text: &str) {
        eventually(text, || self.said().contains(text).then_some(()));
    }

    fn until_shown(&self, results: usize) {
        eventually("results", || {
            (self.documents().len() >= results).then_some(())
        });
    }

    fn ends_well(self) -> Vec<Value> {
        let (out, err) = (self.out.clone(), self.err.clone());
        let status = self.process.wait();
        let said = std::fs::read_to_string(err).unwrap();
        assert!(status.success(), "{status}: {said}");
        let text = std::fs::read_to_string(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The digest of each task's outcome, by index; each task stands once.
fn digests(documents: &[Value]) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for document in documents {
        let index = document["index"].as_u64().unwrap();
        let digest = document["digest"].as_str().unwrap().to_owned();
        assert!(found.insert(index, digest).is_none(), "{index} twice");
    }
    found
}

/// What a machine that never heard of a realm makes of the same inputs.
fn alone(realm: &Realm, inputs: &str) -> BTreeMap<u64, String> {
    let words = run_words(inputs, &["--offline"]);
    let words: Vec<_> = words.iter().skip(1).map(String::as_str).collect();
    digests(&realm.json(&words))
}

/// What a realm's journal says of the tasks of its first job.
#[derive(Debug, Default)]
struct Told {
    /// Leases, by task.
    leases: BTreeMap<u32, usize>,
    /// Ends that a node reported, by task.
    reports: BTreeMap<u32, usize>,
    /// Results that the owner brought, by task.
    merged: BTreeMap<u32, usize>,
    /// Tasks that were leased after their owner had brought the result.
    after: Vec<u32>,
    jobs: usize,
}

/// Stops the coordinator and reads its journal: the audit trail.
fn told(realm: &mut Realm) -> Told {
    if let Some(mut coordinator) = realm.coordinator.take() {
        coordinator.terminate();
    }
    let dir = RealmDir::open(&realm.dir()).unwrap();
    let lock = DirLock::acquire(&realm.dir().join("data")).unwrap();
    let mut told = Told::default();
    let visit = |_, bytes: &[u8]| {
        let record: Record = codec::decode(bytes, usize::MAX)?;
        match record.fact {
            Fact::Submitted { .. } => told.jobs += 1,
            Fact::Leased { leases, .. } => {
                for lease in leases {
                    let task = lease.task.index.0;
                    *told.leases.entry(task).or_default() += 1;
                    if told.merged.contains_key(&task) {
                        told.after.push(task);
                    }
                }
            }
            Fact::Reported { reports, .. } => {
                for report in reports
                    .iter()
                    .filter(|report| report.outcome.is_conclusive())
                {
                    *told.reports.entry(report.task.index.0).or_default() += 1;
                }
            }
            Fact::Merged { results, .. } => {
                for result in results {
                    *told.merged.entry(result.task.index.0).or_default() += 1;
                }
            }
            _ => {}
        }
        Ok::<_, codec::DecodeError>(())
    };
    Journal::open(&lock, JournalConfig::new(dir.realm()), visit).unwrap();
    told
}

impl Told {
    /// Every task was computed to its end once, by a node or by the owner.
    fn each_once(&self, tasks: u32) {
        for task in 0..tasks {
            let times =
                self.reports.get(&task).unwrap_or(&0) + self.merged.get(&task).unwrap_or(&0);
            assert_eq!(times, 1, "task {task}: {self:?}");
        }
        assert_eq!(self.after, [0; 0], "leased though its result was there");
        assert_eq!(self.jobs, 1);
    }
}

fn jobs(realm: &Realm) -> Vec<Value> {
    let list = realm.json(&["jobs"]).remove(0);
    list["jobs"].as_array().unwrap().clone()
}

/// The folders in which jobs are kept.
fn kept(realm: &Realm) -> Vec<PathBuf> {
    let found = std::fs::read_dir(realm.dir().join("outbox"));
    let found = found
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    found.collect()
}

#[test]
fn what_was_computed_offline_is_merged_and_nothing_runs_twice() {
    let mut realm = Realm::start();
    let inputs = inputs(&realm, 40);
    let run = Run::start(&realm, "run", &inputs, &[]);
    run.until_shown(3);
    realm.coordinator.take().unwrap().kill();
    run.until_said("are kept for the realm");
    let shown = digests(&run.ends_well());
    assert_eq!(shown.len(), 40);
    assert_eq!(kept(&realm).len(), 1);

    // Nobody is there who could compute anything: what is missing would stay so.
    realm.start_coordinator(&["--no-local-host"]);
    let before = jobs(&realm).remove(0);
    assert_eq!(before["state"], "open", "{before}");
    let synced = realm.json(&["sync"]).remove(0);
    let job = jobs(&realm).remove(0);
    assert_eq!(
        (&job["state"], &job["counts"]["settled"]),
        (&"closed".into(), &40.into())
    );
    assert_eq!(synced["job"], job["job"]);
    let brought = synced["merged"].as_u64().unwrap();
    assert!((1..40).contains(&brought), "{synced}");
    let share = job["nodes"].as_array().unwrap().iter();
    let mut share = share.filter(|share| share["node"] == "client");
    assert_eq!(share.next().unwrap()["results"], brought, "{job}");

    let results = realm.json(&["results", "job-1"]);
    assert_eq!(digests(&results), shown);
    assert_eq!(digests(&results), alone(&realm, &inputs));
    let by_client = results
        .iter()
        .filter(|result| result["processed_by"] == "client");
    for result in by_client {
        assert_eq!(result["verified"], false, "nobody has checked it: {result}");
        let engine = result["result"]["metadata"]["engine"].as_str().unwrap();
        assert!(!engine.is_empty(), "{result}");
    }
    assert!(kept(&realm).is_empty());
    let told = told(&mut realm);
    told.each_once(40);
    assert_eq!(told.merged.len() as u64, brought);
}

#[test]
fn a_job_that_was_run_offline_is_never_leased() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 8);
    let words = run_words(&inputs, &[]);
    let words: Vec<_> = words.iter().skip(1).map(String::as_str).collect();
    let shown = digests(&realm.json(&words));
    assert_eq!(shown.len(), 8);
    // The same again while it is away: shown from what is kept.
    assert_eq!(digests(&realm.json(&words)), shown);
    assert_eq!(kept(&realm).len(), 1);

    realm.start_coordinator(&[]);
    let synced = realm.json(&["sync"]).remove(0);
    assert_eq!(
        (&synced["merged"], &synced["known"]),
        (&8.into(), &0.into())
    );
    assert_eq!(realm.ok(&["sync"]), "nothing is kept for the realm\n");
    let job = jobs(&realm).remove(0);
    assert_eq!(
        (&job["state"], &job["counts"]["settled"]),
        (&"closed".into(), &8.into())
    );
    assert_eq!(digests(&realm.json(&["results", "job-1"])), shown);
    let told = told(&mut realm);
    told.each_once(8);
    assert_eq!(told.leases.len(), 0, "{told:?}");
}

#[test]
fn what_is_kept_of_one_job_is_not_computed_again_for_another() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 5);
    let first = Run::start(&realm, "first", &inputs, &[]).ends_well();
    let second = Run::start(&realm, "second", &inputs, &["--name", "another"]).ends_well();
    assert_eq!(digests(&first), digests(&second));
    // To the microsecond: what is shown is what was measured then.
    let times = |documents: &[Value]| {
        let times = documents.iter();
        let times = times.map(|one| (one["index"].as_u64(), one["processing_time"].to_string()));
        times.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(times(&first), times(&second));
    realm.start_coordinator(&["--no-local-host"]);
    assert_eq!(realm.json(&["sync"]).len(), 2);
    for job in jobs(&realm) {
        assert_eq!(
            (&job["state"], &job["counts"]["settled"]),
            (&"closed".into(), &5.into())
        );
    }
}

#[test]
fn a_killed_client_loses_nothing_that_it_showed() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 40);
    let mut run = Run::start(&realm, "run", &inputs, &[]);
    run.until_shown(5);
    run.process.kill();
    let shown = digests(&run.documents());
    assert!(shown.len() < 40, "too fast to be killed in the middle");

    realm.start_coordinator(&[]);
    // It asks for the same again, and gets the same job: what was shown is part of it, and the rest is
    // the realm's.
    let run = Run::start(&realm, "again", &inputs, &[]);
    let all = digests(&run.ends_well());
    assert_eq!(all.len(), 40);
    for (index, digest) in &shown {
        assert_eq!(&all[index], digest);
    }
    let results = realm.json(&["results", "job-1"]);
    let by_client = |index: &u64| results[*index as usize]["processed_by"] == "client";
    assert!(shown.keys().all(by_client));
    assert!(kept(&realm).is_empty());
    told(&mut realm).each_once(40);
}

#[test]
fn the_realm_goes_on_when_it_comes_back_in_the_middle() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 40);
    let run = Run::start(&realm, "run", &inputs, &[]);
    run.until_shown(3);
    // Nobody takes what the client still has to bring.
    realm.start_coordinator(&["--no-local-host"]);
    run.until_said("the realm is back");
    let _node = realm.volunteer("ada", &[]);
    let all = digests(&run.ends_well());
    assert_eq!(all, alone(&realm, &inputs));
    let job = jobs(&realm).remove(0);
    assert_eq!(
        (&job["state"], &job["counts"]["settled"]),
        (&"closed".into(), &40.into())
    );
    let by = |node: &str| {
        let shares = job["nodes"].as_array().unwrap().iter();
        let shares = shares.filter(|share| share["node"] == node || share["name"] == node);
        shares
            .map(|share| share["results"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(by("client") >= 3 && by("ada") > 0, "{job}");
    assert!(kept(&realm).is_empty());
    told(&mut realm).each_once(40);
}

#[test]
fn syncing_twice_or_at_once_makes_one_job() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 6);
    Run::start(&realm, "run", &inputs, &[]).ends_well();
    let folder = kept(&realm).remove(0);
    // As it was put back from a backup afterwards: the realm must not be fooled.
    let copy = realm.path("copy");
    copy_folder(&folder, &copy);
    realm.start_coordinator(&[]);
    let both: Vec<_> = (0..2)
        .map(|_| {
            let mut command = realm.command(&["--json", "sync"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut merged = 0;
    for one in both {
        let output = one.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            merged += document["merged"].as_u64().unwrap();
        }
    }
    assert_eq!(merged, 6);
    copy_folder(&copy, &folder);
    let again = realm.json(&["sync"]).remove(0);
    assert_eq!((&again["merged"], &again["known"]), (&0.into(), &6.into()));
    assert_eq!(jobs(&realm).len(), 1);
    let told = told(&mut realm);
    told.each_once(6);
    assert_eq!(told.leases.len(), 0, "{told:?}");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_damaged_outbox_is_set_aside_and_named() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 4);
    Run::start(&realm, "run", &inputs, &[]).ends_well();
    let folder = kept(&realm).remove(0);
    let journal = std::fs::read_dir(folder.join("journal")).unwrap();
    let mut journal = journal.map(|entry| entry.unwrap().path());
    let journal = journal.find(|path| path.extension().is_some_and(|e| e == "journal"));
    let journal = journal.unwrap();
    let mut bytes = std::fs::read(&journal).unwrap();
    // In the results, behind the component.
    let at = bytes.len() - 300;
    bytes[at] ^= 1;
    std::fs::write(&journal, bytes).unwrap();

    realm.start_coordinator(&[]);
    let message = realm.fails(3, &["sync"]);
    let file = journal.file_name().unwrap().to_str().unwrap();
    for part in ["damaged", file, ".damaged", "set aside", "next:"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let aside = kept(&realm);
    assert_eq!(aside.len(), 1);
    assert!(
        aside[0].to_str().unwrap().ends_with(".damaged"),
        "{aside:?}"
    );
    // Told once; what is set aside is in nobody's way, and the realm does the work.
    assert_eq!(realm.ok(&["sync"]), "nothing is kept for the realm\n");
    assert_eq!(jobs(&realm).len(), 0);
    let all = Run::start(&realm, "again", &inputs, &[]).ends_well();
    assert_eq!(digests(&all).len(), 4);
}

#[test]
fn results_of_another_authors_job_are_refused() {
    let mut realm = Realm::start();
    let inputs = inputs(&realm, 12);
    let run = Run::start(&realm, "run", &inputs, &[]);
    run.until_shown(1);
    let token = realm.path("author.token");
    realm.ok(&["invite", "author", "--out", token.to_str().unwrap()]);
    let theirs = realm.path("theirs");
    let (theirs, token) = (theirs.to_str().unwrap(), token.to_str().unwrap());
    realm.ok(&["--realm", theirs, "join", "--token-file", token]);
    realm.coordinator.take().unwrap().kill();
    run.ends_well();
    let folder = kept(&realm).remove(0);
    let name = folder.file_name().unwrap().to_str().unwrap();
    copy_folder(&folder, &PathBuf::from(theirs).join("outbox").join(name));

    realm.start_coordinator(&["--no-local-host"]);
    let message = realm.fails(3, &["--realm", theirs, "sync"]);
    for part in ["no job-1 of yours", "somebody else", "next:", name] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(jobs(&realm)[0]["state"], "open", "nothing of it was taken");
    assert!(folder.is_dir());
    let synced = realm.json(&["sync"]).remove(0);
    assert_eq!(synced["job"], "job-1");
    assert_eq!(jobs(&realm)[0]["state"], "closed");
}

#[test]
fn what_was_computed_offline_for_a_certain_job_is_checked() {
    let mut realm = Realm::start();
    realm.coordinator.take().unwrap().kill();
    let inputs = inputs(&realm, 4);
    Run::start(&realm, "run", &inputs, &["--trust", "certain"]).ends_well();
    realm.start_coordinator(&[]);
    let synced = realm.json(&["sync"]).remove(0);
    assert_eq!(synced["merged"], 4);
    realm.ok(&["wait", "job-1", "--timeout", "60"]);
    for result in realm.json(&["results", "job-1"]) {
        assert_eq!(result["verified"], true, "{result}");
        assert_eq!(result["processed_by"], "client", "{result}");
        assert_eq!(result["attempts"], 1, "the check: {result}");
    }
}

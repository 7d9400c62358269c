//! Guests that misbehave end as they should, and honest work goes on beside them.

use hearth::{Component, LocalHost, LocalHostError, TaskResult};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Inconclusive, TaskError, TaskLimits};
use hostile::{Expected, GUESTS, Guest};

use crate::support::{HEARTH, Realm, guest, hostile as hostile_file};

/// Small, so that what runs into a limit does so soon.
fn limits() -> TaskLimits {
    TaskLimits {
        fuel: 300_000_000,
        memory_bytes: 16 << 20,
        output_bytes: 1 << 20,
        ..TaskLimits::default()
    }
}

fn ends_as_expected(guest: &Guest, result: &TaskResult) {
    let name = guest.name;
    match (guest.expected, &result.outcome) {
        (Expected::Returned(body), RunOutcome::Returned { bytes, .. }) => {
            assert_eq!(bytes, body, "{name}")
        }
        (Expected::RefusedFailed, RunOutcome::Refused(TaskError::Failed(Some(text)))) => {
            assert!(
                !text.is_empty() && text.len() <= hearth_wire::limits::ERROR_TEXT_BYTES_MAX,
                "{name}: {} bytes",
                text.len()
            );
        }
        (Expected::Exhausted(resource), RunOutcome::Exhausted(found)) => {
            assert_eq!(format!("{found:?}"), resource, "{name}")
        }
        (Expected::Trapped(kind), RunOutcome::Trapped(found)) => {
            assert_eq!(format!("{found:?}"), kind, "{name}")
        }
        (Expected::StackOverflow, RunOutcome::Inconclusive(Inconclusive::StackOverflow)) => {}
        (Expected::Unfit { names }, RunOutcome::Inconclusive(Inconclusive::Unfit(text))) => {
            assert!(
                names.is_none_or(|names| text.contains(names)),
                "{name}: {text}"
            );
        }
        (expected, found) => panic!("{name}: expected {expected:?}, got {found:?}"),
    }
}

#[test]
fn every_hostile_guest_ends_as_expected() {
    let host = LocalHost::builder()
        .runner_program(HEARTH)
        .slots(2)
        .start()
        .unwrap();
    let walls = host.confinement();
    assert!(
        walls.no_new_privileges && walls.seccomp && walls.rlimits,
        "{walls:?}"
    );
    let honest = Component::from_path(guest("mersenne")).unwrap();
    for hostile in GUESTS {
        let bytes = hostile.component().unwrap();
        let component = match Component::from_bytes(bytes) {
            Ok(component) => component,
            Err(LocalHostError::Unfit(error)) => {
                let Expected::Unfit { names } = hostile.expected else {
                    panic!("{}: {error}", hostile.name)
                };
                assert!(
                    names.is_none_or(|names| error.to_string().contains(names)),
                    "{}: {error}",
                    hostile.name
                );
                continue;
            }
            Err(error) => panic!("{}: {error}", hostile.name),
        };
        // Two of them beside an honest task on the same host.
        let job = host
            .job(&component)
            .limits(limits())
            .inputs(["", "input"])
            .run()
            .unwrap();
        let beside = host
            .job(&honest)
            .media_type("application/json")
            .input("{\"exponent\": 521}")
            .run()
            .unwrap();
        let results = job.wait();
        assert_eq!(results.len(), 2, "{}", hostile.name);
        results
            .iter()
            .for_each(|result| ends_as_expected(hostile, result));
        assert!(
            beside.wait()[0].output().is_some(),
            "honest work beside {}",
            hostile.name
        );
    }
}

#[test]
fn deterministic_ends_are_the_same_on_pulley() {
    let native = LocalHost::in_process().unwrap();
    let pulley = LocalHost::builder().pulley().start().unwrap();
    for hostile in GUESTS.iter().filter(|guest| {
        !matches!(
            guest.expected,
            Expected::Unfit { .. } | Expected::StackOverflow
        )
    }) {
        let Ok(component) = Component::from_bytes(hostile.component().unwrap()) else {
            continue;
        };
        // An interpreter is slow: a small budget shows the same.
        let limits = TaskLimits {
            fuel: 30_000_000,
            ..limits()
        };
        let run = |host: &LocalHost| {
            host.job(&component)
                .limits(limits)
                .input("")
                .run()
                .unwrap()
                .wait()
        };
        let (ours, theirs) = (run(&native), run(&pulley));
        assert_eq!(ours[0].digest(), theirs[0].digest(), "{}", hostile.name);
        assert_eq!(ours[0].fuel_used, theirs[0].fuel_used, "{}", hostile.name);
    }
}

/// A manifest with [`limits`] beside a component.
fn write_manifest(folder: &std::path::Path, name: &str, component: &[u8]) {
    let limits = limits();
    let text = format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\ncomponent = \"{}\"\ntask-type = \"processing\"\n\
         [limits]\nfuel = {}\nmemory-bytes = {}\ntable-elements = {}\noutput-bytes = {}\nlog-bytes = {}\n\
         checkpoint-bytes = {}\n",
        hearth_wire::Digest::of(component),
        limits.fuel,
        limits.memory_bytes,
        limits.table_elements,
        limits.output_bytes,
        limits.log_bytes,
        limits.checkpoint_bytes,
    );
    std::fs::write(folder.join(format!("{name}.manifest.toml")), text).unwrap();
}

#[test]
fn hostile_jobs_on_a_volunteer_end_typed_and_honest_work_goes_on() {
    let realm = Realm::without_local_host();
    let node = realm.volunteer("ada", &[]);
    let mut jobs = Vec::new();
    for guest in GUESTS {
        // No node gives a result for these: another one is asked, and there is none here.
        if matches!(
            guest.expected,
            Expected::Unfit { .. } | Expected::StackOverflow
        ) {
            continue;
        }
        let path = hostile_file(realm.folder.path(), guest.name);
        write_manifest(
            realm.folder.path(),
            guest.name,
            &std::fs::read(&path).unwrap(),
        );
        let input = realm.file("input", "input");
        let job = realm.json(&["submit", path.to_str().unwrap(), &input]);
        jobs.push((guest, job[0]["job"].as_str().unwrap().to_owned()));
    }
    let honest = realm.submit_mersenne(&[521, 523], &[]);
    for (guest, job) in jobs {
        let name = guest.name;
        let output = realm.run(&["wait", &job, "--timeout", "80"]);
        let result = &realm.json(&["results", &job])[0];
        let metadata = &result["result"]["metadata"];
        let (word, named) = match guest.expected {
            Expected::Returned(_) => ("returned", ""),
            Expected::RefusedFailed => ("refused", "failed"),
            Expected::Exhausted(resource) => ("exhausted", resource),
            Expected::Trapped(kind) => ("trapped", kind),
            Expected::Unfit { .. } | Expected::StackOverflow => unreachable!("skipped above"),
        };
        assert_eq!(metadata["outcome"], word, "{name}: {result}\n{output:?}");
        let detail = metadata["detail"].as_str().unwrap_or_default();
        let plain = |text: &str| text.replace([' ', '-'], "").to_lowercase();
        assert!(
            plain(detail).contains(&plain(named)),
            "{name}: {named} in {detail:?}"
        );
        assert_eq!(metadata["node_name"], "ada", "{name}");
    }
    realm.ok(&["wait", &honest, "--timeout", "60"]);
    assert_eq!(realm.json(&["results", &honest]).len(), 2);
    drop(node);
}

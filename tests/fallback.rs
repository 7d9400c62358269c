//! Volunteers vanish, coordinators vanish, and the work goes on.

use serde_json::Value;

use crate::support::{Realm, cpu_ticks, descendants, eventually, guest};

/// Exponents whose tests take a while (seconds in all), so that there is a middle to be killed in.
const LONG: [u64; 12] = [
    4253, 4423, 4259, 4261, 4271, 4273, 4283, 4289, 4297, 4327, 4337, 4339,
];

/// How a job stands.
fn status(realm: &Realm, job: &str) -> Value {
    let list = &realm.json(&["jobs"])[0]["jobs"];
    list.as_array()
        .unwrap()
        .iter()
        .find(|status| status["job"] == job)
        .unwrap()
        .clone()
}

fn results(realm: &Realm, job: &str) -> Vec<Value> {
    realm.json(&["results", job])
}

#[test]
fn a_volunteer_computes_and_says_who_it_is() {
    let realm = Realm::without_local_host();
    let _node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[7, 11, 13, 521], &["--trust", "fast"]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    let results = results(&realm, &job);
    assert_eq!(results.len(), 4);
    for result in &results {
        let output: Value =
            serde_json::from_str(result["result"]["output"].as_str().unwrap()).unwrap();
        assert_eq!(output["prime"], output["exponent"] != 11, "{result}");
        assert_eq!(result["result"]["metadata"]["node_name"], "ada");
        assert_eq!(result["verified"], false, "fast verifies nothing");
        assert_eq!(result["state"], "settled");
    }
}

#[test]
fn a_killed_volunteer_loses_nothing() {
    let realm = Realm::without_local_host();
    let mut first = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&LONG, &[]);
    eventually("a first result", || {
        (status(&realm, &job)["counts"]["settled"].as_u64()? > 0).then_some(())
    });
    first.kill();
    let _second = realm.volunteer("grace", &[]);
    realm.ok(&["wait", &job, "--timeout", "80"]);
    let results = results(&realm, &job);
    assert_eq!(results.len(), LONG.len());
    let by = |name: &str| {
        results
            .iter()
            .filter(|result| result["result"]["metadata"]["node_name"] == name)
            .count()
    };
    assert!(
        by("ada") > 0 && by("grace") > 0,
        "{} by ada, {} by grace",
        by("ada"),
        by("grace")
    );
}

#[test]
fn work_goes_home_when_volunteers_vanish() {
    let realm = Realm::start();
    let mut node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&LONG, &[]);
    eventually("a lease", || {
        (status(&realm, &job)["counts"]["leased"].as_u64()? > 0).then_some(())
    });
    // Silent, not closed: as with a pulled cable.
    node.signal("STOP");
    realm.ok(&["wait", &job, "--timeout", "80"]);
    let results = results(&realm, &job);
    assert_eq!(results.len(), LONG.len());
    assert!(
        results
            .iter()
            .any(|result| result["processed_by"] == "local")
    );
    let modes = &realm.json(&["modes"])[0];
    assert_eq!(modes["mode"], "local", "{modes}");
    node.kill();
}

#[test]
fn certain_results_are_verified() {
    let realm = Realm::start();
    let _node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[89, 97, 107], &["--trust", "certain"]);
    realm.ok(&["wait", &job, "--timeout", "60"]);
    for result in results(&realm, &job) {
        assert_eq!(result["verified"], true, "{result}");
    }
}

#[test]
fn run_works_without_any_realm() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.json");
    std::fs::write(&input, "{\"exponent\": 127}").unwrap();
    let output = std::process::Command::new(crate::support::HEARTH)
        .args(["--json", "run"])
        .arg(guest("mersenne"))
        .arg(&input)
        .env_remove("HEARTH_REALM")
        .env("XDG_DATA_HOME", folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["processed_by"], "local");
    assert!(
        result["output"]
            .as_str()
            .unwrap()
            .contains("\"prime\":true"),
        "{result}"
    );
}

#[test]
fn run_goes_home_when_the_coordinator_is_down() {
    let mut realm = Realm::start();
    let input = realm.file("input.json", "{\"exponent\": 61}");
    let component = guest("mersenne");
    let run = ["run", component.to_str().unwrap(), &input];
    let online = &realm.json(&run)[0];
    assert_eq!(online["task_id"], "job-1/0");
    realm.coordinator.as_mut().unwrap().kill();
    let offline = &realm.json(&run)[0];
    assert_eq!(offline["digest"], online["digest"]);
}

/// Which nodes a job's results came from, by name.
fn producers(realm: &Realm, job: &str) -> std::collections::BTreeMap<String, usize> {
    let mut found = std::collections::BTreeMap::new();
    for result in results(realm, job) {
        let home = result["processed_by"] == "local";
        let name = &result["result"]["metadata"]["node_name"];
        let name = if home {
            "local"
        } else {
            name.as_str().unwrap()
        };
        *found.entry(name.to_owned()).or_default() += 1;
    }
    found
}

fn mode(realm: &Realm) -> String {
    realm.json(&["modes"])[0]["mode"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// More work than one volunteer does in time: the local host takes a part, and the mode says so.
#[test]
fn overflow_goes_home_and_the_mode_is_hybrid() {
    let realm = Realm::start();
    let _node = realm.volunteer("ada", &[]);
    // Core lets work overflow that takes more than ten seconds: this is minutes, on a fast machine too.
    let many = [9689; 1_000];
    let job = realm.submit_mersenne(&many, &[]);
    eventually("the mode", || (mode(&realm) == "hybrid").then_some(()));
    eventually("results of both", || {
        let by = producers(&realm, &job);
        (by.contains_key("ada") && by.contains_key("local")).then_some(())
    });
    realm.ok(&["cancel", &job]);
    // With nothing left to do in time, new work is the volunteers' again.
    eventually("the mode", || (mode(&realm) == "distributed").then_some(()));
}

#[test]
fn queued_work_goes_back_to_volunteers_when_they_come() {
    let realm = Realm::start();
    let many = [9689; 12];
    let job = realm.submit_mersenne(&many, &[]);
    eventually("a result at home", || {
        (status(&realm, &job)["counts"]["settled"].as_u64()? > 0).then_some(())
    });
    assert_eq!(mode(&realm), "local");
    let _node = realm.volunteer("ada", &[]);
    eventually("another mode", || (mode(&realm) != "local").then_some(()));
    realm.ok(&["wait", &job, "--timeout", "85"]);
    let by = producers(&realm, &job);
    assert!(by["ada"] > 0 && by["local"] > 0, "{by:?}");
}

/// A node that was not heard for a while lost its leases; what it computed meanwhile counts.
#[test]
fn late_reports_merge() {
    let realm = Realm::without_local_host();
    let node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[9689, 4423], &[]);
    eventually("a lease", || {
        (status(&realm, &job)["counts"]["leased"].as_u64()? > 0).then_some(())
    });
    // The node is deaf and dumb; its runner goes on.
    node.signal("STOP");
    eventually("the loss", || {
        (status(&realm, &job)["counts"]["leased"].as_u64()? == 0).then_some(())
    });
    // The runner has done what it had: what the node says when it wakes is late.
    let runner = descendants(node.id());
    let (mut before, mut quiet) = (Vec::new(), 0);
    eventually("the end of the work", || {
        let used: Vec<_> = runner.iter().map(|pid| cpu_ticks(*pid)).collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        // On a busy machine it may go without for a while.
        quiet = if before == used { quiet + 1 } else { 0 };
        before = used;
        (quiet >= 4).then_some(())
    });
    node.signal("CONT");
    realm.ok(&["wait", &job, "--timeout", "85"]);
    let status = status(&realm, &job);
    assert_eq!(producers(&realm, &job)["ada"], 2, "{status}");
    assert_eq!(status["counts"]["settled"], 2);
    assert_eq!(status["retries"], 0, "nothing was computed twice: {status}");
}

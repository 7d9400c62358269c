//! Work that a lost volunteer had done is not done again.

use hearth::{Component, LocalHost};

use crate::support::{Realm, eventually, guest};

/// Takes some seconds, so that there is a middle to be killed in.
const EXPONENT: u64 = 11_213;

#[test]
fn another_volunteer_goes_on_from_the_checkpoint_of_a_killed_one() {
    let realm = Realm::without_local_host();
    let period = ["--checkpoint-millis", "100", "-v"];
    let mut first = realm.volunteer("ada", &period);
    let job = realm.submit_mersenne(&[EXPONENT], &["--trust", "fast"]);
    // Several, so that the earlier ones are with the coordinator for certain.
    eventually("checkpoints", || {
        let said = realm.said("ada");
        (said.matches("a checkpoint is handed over").count() >= 3).then_some(())
    });
    first.kill();
    let _second = realm.volunteer("grace", &period);
    realm.ok(&["wait", &job, "--timeout", "85"]);
    assert!(
        realm.said("grace").contains("going on from a checkpoint"),
        "{}",
        realm.said("grace")
    );
    let results = realm.json(&["results", &job]);
    let metadata = &results[0]["result"]["metadata"];
    assert_eq!(metadata["node_name"], "grace");

    // Resuming changed nothing in the outcome. The fuel is the same up to the last snapshot, to the unit;
    // after it the guest allocates for its answer, from free lists that no snapshot holds.
    let component = guest("mersenne");
    let limits = hearth::task_tools::load(&component).unwrap().draft.limits;
    let host = LocalHost::in_process().unwrap();
    let whole = host
        .job(&Component::from_path(component).unwrap())
        .media_type("application/json")
        .limits(limits)
        .input(format!("{{\"exponent\": {EXPONENT}}}"))
        .run()
        .unwrap()
        .wait();
    assert_eq!(
        results[0]["digest"],
        whole[0].digest().unwrap().to_string(),
        "{results:?}"
    );
    let (resumed, whole) = (metadata["fuel_used"].as_u64().unwrap(), whole[0].fuel_used);
    assert!(
        resumed.abs_diff(whole) < 1_000,
        "{resumed} resumed, {whole} at once"
    );
}

//! The same component on the same input gives the same bytes, outcome and digest everywhere.

use std::path::Path;

use hearth::{Component, LocalHost};
use hearth_wire::Digest;
use serde_json::{Value, json};

use crate::support::{Realm, guest};

/// Small inputs for each example task.
fn cases() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let mersenne = [521, 523, 1279, 1283]
        .map(|exponent| json!({ "exponent": exponent }).to_string().into_bytes());
    let scene: Value =
        serde_json::from_str(include_str!("../tasks/render/scenes/hearth.json")).unwrap();
    let render = [0, 64].map(|x| {
        let image = json!({ "width": 128, "height": 80, "samples": 4 });
        let tile = json!({ "x": x, "y": 16, "width": 32, "height": 32 });
        json!({ "scene": scene, "image": image, "tile": tile })
            .to_string()
            .into_bytes()
    });
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/keywords/samples");
    let mut texts: Vec<_> = std::fs::read_dir(samples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    texts.sort();
    let texts = texts
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    vec![
        ("mersenne", "application/json", mersenne.to_vec()),
        ("render", "application/json", render.to_vec()),
        ("keywords", "text/plain", texts),
    ]
}

fn digests(
    host: &LocalHost,
    name: &str,
    media_type: &str,
    inputs: &[Vec<u8>],
) -> Vec<(Digest, u64)> {
    let component = Component::from_path(guest(name)).unwrap();
    let job = host
        .job(&component)
        .media_type(media_type)
        .limits(limits(name))
        .inputs(inputs);
    let results = job.run().unwrap().wait();
    assert!(
        results.iter().all(|result| result.output().is_some()),
        "{name}: {results:?}"
    );
    results
        .iter()
        .map(|result| (result.digest().unwrap(), result.fuel_used))
        .collect()
}

/// Limits of an example's manifest.
fn limits(name: &str) -> hearth_wire::TaskLimits {
    hearth::task_tools::load(&guest(name)).unwrap().draft.limits
}

#[test]
fn all_ways_give_the_same_digests() {
    let realm = Realm::without_local_host();
    let node = realm.volunteer("ada", &[]);
    let home = Realm::start();
    let native = LocalHost::in_process().unwrap();
    let confined = LocalHost::builder()
        .runner_program(crate::support::HEARTH)
        .start()
        .unwrap();
    let pulley = LocalHost::builder().pulley().start().unwrap();
    for (name, media_type, inputs) in cases() {
        let expected = digests(&native, name, media_type, &inputs);
        assert_eq!(
            digests(&native, name, media_type, &inputs),
            expected,
            "{name}: twice"
        );
        assert_eq!(
            digests(&confined, name, media_type, &inputs),
            expected,
            "{name}: in confined processes"
        );
        assert_eq!(
            digests(&pulley, name, media_type, &inputs),
            expected,
            "{name}: on Pulley"
        );
        let component = guest(name);
        let mut files = Vec::new();
        for (at, input) in inputs.iter().enumerate() {
            let path = realm.path(&format!("{name}-{at}"));
            std::fs::write(&path, input).unwrap();
            files.push(path.to_str().unwrap().to_owned());
        }
        let mut args = vec![
            "run",
            component.to_str().unwrap(),
            "--media-type",
            media_type,
        ];
        args.extend(files.iter().map(String::as_str));
        let sorted = |mut results: Vec<Value>| {
            results.sort_by_key(|result| result["index"].as_u64());
            results
        };
        let volunteers = sorted(realm.json(&args));
        args.extend(["--trust", "local"]);
        let at_home = sorted(home.json(&args));
        let mut once = vec![
            "task",
            "run",
            component.to_str().unwrap(),
            "--media-type",
            media_type,
        ];
        once.extend(files.iter().map(String::as_str));
        let once = sorted(realm.json(&once));
        for (at, (digest, fuel)) in expected.iter().enumerate() {
            assert_eq!(
                volunteers[at]["digest"],
                digest.to_string(),
                "{name}/{at}: on a volunteer"
            );
            assert_eq!(
                volunteers[at]["result"]["metadata"]["fuel_used"], *fuel,
                "{name}/{at}: fuel on a volunteer"
            );
            assert_eq!(
                at_home[at]["digest"],
                digest.to_string(),
                "{name}/{at}: on the coordinator's local host"
            );
            assert_eq!(at_home[at]["processed_by"], "local");
            assert_eq!(
                at_home[at]["result"]["metadata"]["fuel_used"], *fuel,
                "{name}/{at}: fuel on the coordinator's local host"
            );
            assert_eq!(
                once[at]["fuel_used"], *fuel,
                "{name}/{at}: fuel of hearth task run"
            );
            assert_eq!(
                once[at]["digest"],
                digest.to_string(),
                "{name}/{at}: hearth task run"
            );
        }
    }
    drop(node);
}

/// Names of the compiled components in a cache's folder.
fn artefacts(cache: &Path) -> std::collections::BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(cache.join("cache/artefacts")).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn confined_runners_interpret_when_told_to_and_share_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let host = || {
        LocalHost::builder()
            .runner_program(crate::support::HEARTH)
            .cache(folder.path())
    };
    let (name, media_type, inputs) = cases().remove(0);
    let run = |builder: hearth::LocalHostBuilder| {
        let host = builder.start().unwrap();
        let walls = host.confinement();
        assert!(walls.no_new_privileges && walls.seccomp, "{walls:?}");
        digests(&host, name, media_type, &inputs[..2])
    };
    let native = run(host());
    let one = artefacts(folder.path());
    assert_eq!(one.len(), 1);
    // Byte code is another artefact than machine code: the profile is really another.
    assert_eq!(run(host().pulley()), native);
    let two = artefacts(folder.path());
    assert!(two.len() == 2 && two.is_superset(&one), "{two:?}");
    let interpreted = two.difference(&one).next().unwrap();
    let bytes = std::fs::read(folder.path().join("cache/artefacts").join(interpreted)).unwrap();
    assert!(
        bytes.windows(6).any(|window| window == b"pulley"),
        "the artefact names its target"
    );
    // Both find their own again.
    assert_eq!(run(host()), native);
    assert_eq!(artefacts(folder.path()), two);
}

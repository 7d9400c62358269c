//! What a new task gets a copy of: the SDK, the contract, and the versions that were tested.

macro_rules! vendored {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// Path in the repository (and below `.hearth/sdk` of a task) and text of each file. A test compares
/// this list with the folders.
pub(super) const FILES: &[(&str, &str)] = vendored![
    "guest-sdk/Cargo.toml",
    "guest-sdk/macros/Cargo.toml",
    "guest-sdk/macros/src/lib.rs",
    "guest-sdk/macros/src/signature.rs",
    "guest-sdk/src/checkpoint.rs",
    "guest-sdk/src/context.rs",
    "guest-sdk/src/error.rs",
    "guest-sdk/src/host.rs",
    "guest-sdk/src/host/mock.rs",
    "guest-sdk/src/host/wasm.rs",
    "guest-sdk/src/lib.rs",
    "guest-sdk/src/log.rs",
    "guest-sdk/src/payload.rs",
    "guest-sdk/src/private.rs",
    "guest-sdk/src/rng.rs",
    "guest-sdk/src/testing.rs",
    "guest-sdk/src/tests.rs",
    "wit/checkpoint.wit",
    "wit/context.wit",
    "wit/deadline.wit",
    "wit/progress.wit",
    "wit/runner.wit",
    "wit/types.wit",
    "wit/worlds.wit",
];

/// The versions of all dependencies that this program was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// A `Cargo.lock` for a task: the part of ours that the SDK needs, so that a first build takes
/// versions that are known to work together. Cargo adds the task itself. `None` if ours cannot be read,
/// and cargo then chooses by itself.
pub(super) fn lock() -> Option<String> {
    let lock: toml::Table = LOCK.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let mut wanted = vec![
        ("hearth-guest".to_owned(), None),
        ("serde".to_owned(), None),
    ];
    let mut kept = vec![false; packages.len()];
    while let Some((name, version)) = wanted.pop() {
        for (package, kept) in packages.iter().zip(&mut kept) {
            let named = text(package, "name").as_ref() == Some(&name);
            let versioned = version.is_none() || text(package, "version") == version;
            if *kept || !named || !versioned {
                continue;
            }
            *kept = true;
            let dependencies = package.get("dependencies").and_then(|list| list.as_array());
            for dependency in dependencies.into_iter().flatten() {
                // "name", or "name version" where there are several of the name.
                let mut words = dependency.as_str()?.split(' ').map(str::to_owned);
                wanted.push((words.next()?, words.next()));
            }
        }
    }
    let mut part = toml::Table::new();
    part.insert("version".to_owned(), lock.get("version")?.clone());
    let packages = packages
        .iter()
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(package, _)| package.clone());
    part.insert("package".to_owned(), toml::Value::Array(packages.collect()));
    Some(format!(
        "# Cargo keeps this file; it began with the versions that hearth was built with.\n{part}"
    ))
}

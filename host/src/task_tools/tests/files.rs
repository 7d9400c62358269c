//! Components and releases as files: what is read, what is refused, and how it is said.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_identity::{SigningKey, Trust, verify_release};
use hearth_wire::{Class, Digest, TaskType, UnixSeconds, World};

use crate::task_tools::{self, Bundle, Loaded, SignOptions, ToolError, build, check, load, sign};

const DAY: u64 = 86_400;

fn options() -> SignOptions {
    SignOptions {
        not_before: UnixSeconds(10 * DAY),
        not_after: UnixSeconds(20 * DAY),
        realm: None,
    }
}

/// A component in a folder of its own.
fn placed(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{name}.wasm"));
    fs::write(&path, hostile::component(name).unwrap()).unwrap();
    (folder, path)
}

fn fit() -> (tempfile::TempDir, Loaded) {
    let (folder, path) = placed("endless-loop");
    let loaded = load(&path).unwrap();
    (folder, loaded)
}

#[test]
fn a_component_of_another_toolchain_is_taken_as_it_is() {
    let (folder, path) = placed("endless-loop");
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.draft.name, "endless-loop");
    assert_eq!(
        (loaded.draft.world, loaded.draft.class),
        (World::Task, Class::Exact)
    );
    assert!(loaded.release.is_none());

    let built = build(&path, None, &mut |_| {}).unwrap();
    assert_eq!(
        built.component,
        folder.path().join("endless-loop.component.wasm")
    );
    assert_eq!(
        fs::read(&built.component).unwrap(),
        fs::read(&path).unwrap()
    );
    // What the author writes into the manifest counts, and stays when the component is taken again.
    let text = fs::read_to_string(&built.manifest).unwrap();
    let edited = text
        .replace("version = \"0.0.0\"", "version = \"2.1.0\"")
        .replace("processing", "analysis");
    fs::write(&built.manifest, edited.replace("20000000000", "5000000")).unwrap();
    build(&path, None, &mut |_| {}).unwrap();
    let draft = load(&built.component).unwrap().draft;
    assert_eq!(draft.version, "2.1.0");
    assert_eq!(draft.task_type, TaskType::Analysis);
    assert_eq!(draft.limits.fuel, 5_000_000);
}

#[test]
fn a_manifest_of_another_component_is_refused() {
    let (_folder, path) = placed("endless-loop");
    let built = build(&path, None, &mut |_| {}).unwrap();
    fs::write(
        &built.component,
        hostile::component("giant-output").unwrap(),
    )
    .unwrap();
    let error = load(&built.component).unwrap_err();
    assert!(matches!(error, ToolError::Draft { .. }), "{error}");
    assert!(error.to_string().contains("build again"), "{error}");
}

#[test]
fn foreign_imports_are_named_by_check_and_refused_by_sign_and_build() {
    for name in ["foreign-import", "wasi-sockets"] {
        let (_folder, path) = placed(name);
        let report = check(&path).unwrap();
        let why = report.unfit.unwrap();
        let foreign = report
            .imports
            .iter()
            .find(|import| !import.starts_with("hearth:task/"))
            .unwrap();
        assert!(why.contains(foreign.as_str()), "{why}");
        assert!(matches!(load(&path).unwrap_err(), ToolError::Unfit(_)));
        assert!(matches!(
            build(&path, None, &mut |_| {}).unwrap_err(),
            ToolError::Unfit(_)
        ));
    }
}

#[test]
fn check_reports_what_is_there() {
    let (_folder, path) = placed("endless-loop");
    let report = check(&path).unwrap();
    assert_eq!(report.unfit, None);
    assert_eq!(report.world, "task");
    assert!(!report.wasi);
    assert_eq!(report.digest, Digest::of(&fs::read(&path).unwrap()));
    assert!(
        report
            .imports
            .iter()
            .all(|import| import.starts_with("hearth:task/")),
        "{report:?}"
    );
}

#[test]
fn modules_and_other_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        load(&path).unwrap_err()
    };
    let error = refused("plain.wasm", b"\0asm\x01\0\0\0");
    assert!(matches!(error, ToolError::Encode(_)), "{error}");
    assert!(error.to_string().contains("#[hearth::task]"), "{error}");
    for (name, bytes) in [("text.wasm", &b"hello"[..]), ("empty.wasm", b"")] {
        let error = refused(name, bytes);
        assert!(matches!(error, ToolError::NotATask { .. }), "{error}");
    }
    let error = refused("broken.wasm", b"\0asm\x0d\0\x01\0garbage");
    assert!(matches!(error, ToolError::Unfit(_)), "{error}");
    let error = load(&folder.path().join("absent.wasm")).unwrap_err();
    assert!(matches!(error, ToolError::Io { .. }), "{error}");
    let error = load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("hearth task new"), "{error}");
}

#[test]
fn a_signed_release_travels_in_one_file_and_verifies() {
    let (folder, loaded) = fit();
    let key = SigningKey::generate().unwrap();
    let bundle = sign(&loaded, &key, &options()).unwrap();
    let path = loaded.release_path();
    assert_eq!(path, folder.path().join("endless-loop.hearth"));
    bundle.write(&path).unwrap();

    let back = load(&path).unwrap();
    assert_eq!(back.component, loaded.component);
    assert_eq!(back.draft, loaded.draft);
    let release = back.release.unwrap();
    assert_eq!(release.id(), bundle.release.id());
    let trust = Trust::personal(key.public());
    let verified = verify_release(&release, &trust, UnixSeconds(15 * DAY)).unwrap();
    assert_eq!(
        verified.manifest.component.digest,
        Digest::of(&loaded.component)
    );
    assert!(
        verified
            .manifest
            .engines
            .contains(&hearth_sandbox::engine_id())
    );
    assert_eq!(check(&path).unwrap().unfit, None);
}

#[test]
fn a_damaged_release_is_never_taken() {
    let (folder, loaded) = fit();
    let key = SigningKey::generate().unwrap();
    let path = folder.path().join("release.hearth");
    sign(&loaded, &key, &options())
        .unwrap()
        .write(&path)
        .unwrap();
    let whole = fs::read(&path).unwrap();
    let trust = Trust::personal(key.public());
    let taken = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let Ok(bundle) = Bundle::read(&path) else {
            return false;
        };
        verify_release(&bundle.release, &trust, UnixSeconds(15 * DAY)).is_ok()
    };
    assert!(taken(&whole));
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(!taken(&flipped), "byte {at}");
        assert!(!taken(&whole[..at]), "cut at {at}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(!taken(&longer));
}

#[test]
fn what_no_node_would_take_is_not_signed() {
    let (_folder, mut loaded) = fit();
    let key = SigningKey::generate().unwrap();
    loaded.draft.limits.memory_bytes = 1;
    let error = sign(&loaded, &key, &options()).unwrap_err();
    assert!(
        matches!(error, ToolError::Unfit(_) | ToolError::Manifest(_)),
        "{error}"
    );
    let (_folder, mut loaded) = fit();
    loaded
        .draft
        .imports
        .push("wasi:sockets/tcp@0.2.0".to_owned());
    loaded.draft.name = String::new();
    let error = sign(&loaded, &key, &options()).unwrap_err();
    assert!(
        matches!(error, ToolError::Unfit(_) | ToolError::Manifest(_)),
        "{error}"
    );
}

#[test]
fn names_of_new_tasks_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "",
        "Hello",
        "1st",
        "a b",
        "fn",
        "hearth",
        "über",
        &"x".repeat(65),
        "..",
    ] {
        let error = task_tools::new(&folder.path().join(name)).unwrap_err();
        assert!(
            matches!(error, ToolError::Name { .. } | ToolError::Exists(_)),
            "{name}: {error}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::create_dir(folder.path().join("there")).unwrap();
    fs::write(folder.path().join("there/precious"), "mine").unwrap();
    let error = task_tools::new(&folder.path().join("there")).unwrap_err();
    assert!(matches!(error, ToolError::Exists(_)), "{error}");
}

#[test]
fn the_copy_of_the_sdk_is_complete() {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&here.join("guest-sdk"), &mut found);
    walk(&here.join("wit"), &mut found);
    found.sort();
    let listed: Vec<&str> = task_tools::vendored::FILES
        .iter()
        .map(|(path, _)| *path)
        .collect();
    assert_eq!(listed, found, "list new files in task_tools/vendored.rs");
}

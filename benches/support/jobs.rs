//! Jobs of distinct inputs whose outputs are checked.

use std::time::Duration;

use bytes::Bytes;
use hearth::client::Client;
use hearth_net::http::client::UploadSource;
use hearth_wire::api::{JobState, SubmitJob};
use hearth_wire::{InputSet, InputSetWriter, JobId, JobOptions, ReleaseId};

use super::Realm;

/// Returns its input.
const ECHO: &str = r#"(module
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get 0))
    (i32.store (i32.const 8) (local.get 1))
    (i32.store (i32.const 12) (local.get 2))
    (i32.store (i32.const 16) (local.get 3))
    (i32.const 0)))"#;

/// Never ends by itself.
const SPIN: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (loop $again (br $again))
    (i32.const 0)))"#;

/// 64 bytes that no other task has.
pub(crate) fn input(job: u64, task: u64) -> [u8; 64] {
    let mut bytes = [b'.'; 64];
    bytes[..8].copy_from_slice(&job.to_le_bytes());
    bytes[8..16].copy_from_slice(&task.to_le_bytes());
    bytes
}

/// Hands over the inputs of a job of so many tasks.
pub(crate) async fn add_inputs(client: &Client, job: u64, tasks: u64) -> InputSet {
    let mut writer = InputSetWriter::new(Vec::new());
    (0..tasks).for_each(|task| writer.push(&input(job, task)).unwrap());
    let (inputs, bytes) = writer.finish("application/octet-stream").unwrap();
    let source = UploadSource::Bytes(bytes.into());
    client.add_inputs(&inputs, source).await.unwrap();
    inputs
}

/// Submits a job whose inputs are there, under the default policy (`fast`).
pub(crate) async fn submit_inputs(client: &Client, release: ReleaseId, inputs: InputSet) -> JobId {
    let options = JobOptions::default();
    let job = SubmitJob {
        release,
        inputs,
        options,
    };
    client.submit(&job).await.unwrap().job
}

/// Both.
pub(crate) async fn submit(client: &Client, release: ReleaseId, job: u64, tasks: u64) -> JobId {
    let inputs = add_inputs(client, job, tasks).await;
    submit_inputs(client, release, inputs).await
}

/// Waits for the end of a job.
pub(crate) async fn ended(client: &Client, job: JobId) {
    while client.job(job, None).await.unwrap().state == JobState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads every output back and compares it with its input.
pub(crate) async fn check(client: &Client, job: JobId, number: u64, tasks: u64) {
    let (mut from, mut seen) = (Some(0), 0);
    while let Some(start) = from {
        let page = client.results(job, start).await.unwrap();
        for result in &page.results {
            let expected = hearth_wire::Digest::of(&input(number, result.index.into()));
            let found = result.result.metadata.output_digest;
            assert_eq!(found, Some(expected), "task {}", result.index);
            seen += 1;
        }
        from = page.next;
    }
    assert_eq!(seen, tasks);
}

/// Signs a guest that returns its input and hands it over.
pub(crate) async fn echo(realm: &Realm, client: &Client) -> ReleaseId {
    release(realm, client, "echo", ECHO).await
}

/// The same of one that never ends.
pub(crate) async fn spin(realm: &Realm, client: &Client) -> ReleaseId {
    release(realm, client, "spin", SPIN).await
}

async fn release(
    realm: &Realm,
    client: &Client,
    name: &'static str,
    wat: &'static str,
) -> ReleaseId {
    let guest = hostile::Guest {
        name,
        wat,
        shape: hostile::Shape::World("task"),
        expected: hostile::Expected::Returned(b""),
    };
    let component = guest.component().unwrap();
    let (path, bundle) = (
        realm.path(&format!("{name}.component.wasm")),
        realm.path(&format!("{name}.hearth")),
    );
    std::fs::write(&path, &component).unwrap();
    let (from, to) = (path.to_str().unwrap(), bundle.to_str().unwrap());
    realm.ok(&["task", "sign", from, "--out", to]);
    let loaded = hearth::task_tools::load(&bundle).unwrap();
    let release = loaded.release.as_ref().unwrap();
    let component = Bytes::from(component);
    client.add_release(release, component).await.unwrap()
}

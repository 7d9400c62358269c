//! Several processes: one directory belongs to one of them, and any of them may be killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{config, record};
use crate::{DirLock, Journal, StoreError};

const DIR: &str = "HEARTH_STORE_TEST_DIR";

/// Not a test of its own: what the other tests start as another process.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let lock = DirLock::acquire(Path::new(&dir)).unwrap();
    let mut next = 0;
    let visit = |_, bytes: &[u8]| {
        assert_eq!(bytes, record(next));
        next += 1;
        Ok::<_, std::convert::Infallible>(())
    };
    let (mut journal, recovery) = Journal::open(&lock, config(), visit).unwrap();
    println!("\nfound {next} {recovery:?}");
    loop {
        let batch: Vec<_> = (next..next + 1 + next % 5).map(record).collect();
        journal.append(&batch).unwrap();
        next += batch.len() as u64;
        println!("\nacknowledged {}", journal.commit().unwrap());
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::process::child", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn the_second_process_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .find(|line| line.as_ref().unwrap().starts_with("found"))
        .unwrap()
        .unwrap();
    let error = DirLock::acquire(dir.path()).unwrap_err();
    let StoreError::Locked { pid, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*pid, Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    // The lock is the process's, not the thread's, and goes with its last clone.
    let clone = lock.clone();
    drop(lock);
    assert!(matches!(
        DirLock::acquire(dir.path()).unwrap_err(),
        StoreError::Locked { .. }
    ));
    drop(clone);
    DirLock::acquire(dir.path()).unwrap();
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0u64..25 {
        let mut child = start(dir.path());
        let output = BufReader::new(child.stdout.take().unwrap());
        let pid = child.id();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(15 + round * 13 % 60));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for line in output.lines() {
            let line = line.unwrap();
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("found"), Some(found)) => {
                    let found: u64 = found.parse().unwrap();
                    assert!(found >= acknowledged, "{found} of {acknowledged}, {pid}");
                }
                (Some("acknowledged"), Some(seq)) => acknowledged = seq.parse().unwrap(),
                _ => {}
            }
        }
        killer.join().unwrap();
    }
    assert!(acknowledged > 100, "{acknowledged}");
    let lock = DirLock::acquire(dir.path()).unwrap();
    let mut found = 0;
    let visit = |_, bytes: &[u8]| {
        assert_eq!(bytes, record(found));
        found += 1;
        Ok::<_, std::convert::Infallible>(())
    };
    Journal::open(&lock, config(), visit).unwrap();
    assert!(found >= acknowledged);
}

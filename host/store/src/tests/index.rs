//! The index over real files, and over what becomes of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use hearth_wire::{Digest, Epoch, RealmId, Seq};
use tempfile::TempDir;

use super::realm;
use crate::{
    DirLock, INDEX_KEY_BYTES_MAX, INDEX_ROW_BYTES_MAX, Index, IndexError, IndexPoint, IndexStep,
    Indexes,
};

/// Names the directory to a child that writes into an index until it cannot.
const CHILD: &str = "HEARTH_INDEX_CHILD";

fn indexes(dir: &TempDir, realm: RealmId) -> Indexes {
    Indexes::new(&DirLock::acquire(dir.path()).unwrap(), realm)
}

fn point(seq: u64) -> IndexPoint {
    let epoch = Epoch {
        counter: 1,
        incarnation: 7,
    };
    IndexPoint {
        seq: Seq(seq),
        epoch,
    }
}

fn key(number: u64) -> Vec<u8> {
    let mut key = vec![1];
    key.extend(number.to_be_bytes());
    key
}

fn row(number: u64) -> Vec<u8> {
    let len = (number * 37 % 900) as usize;
    (0..len).map(|at| (at as u64 * number) as u8).collect()
}

/// Rows `numbers`, ten in a step.
fn fill(index: &Index, numbers: impl IntoIterator<Item = u64>) {
    let numbers: Vec<_> = numbers.into_iter().collect();
    for some in numbers.chunks(10) {
        let mut step = IndexStep::default();
        some.iter()
            .for_each(|number| step.put(key(*number), row(*number)));
        let seq = index.point().seq.0 + 1;
        index.apply(step, point(seq)).unwrap();
    }
}

/// The engine alone on an index that is closed.
fn engine(indexes: &Indexes) -> sled::Db {
    sled::Config::new()
        .path(indexes.path().join("1"))
        .mode(sled::Mode::LowSpace)
        .open()
        .unwrap()
}

#[test]
fn what_was_applied_is_there_again_and_its_hash_tells_the_content_alone() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    assert_eq!((index.point(), index.rows()), (IndexPoint::default(), 0));
    fill(&index, 0..200);
    let mut step = IndexStep::default();
    step.remove(key(7));
    step.put(key(8), b"other".to_vec());
    step.put(key(8), row(8));
    step.remove(key(1_000));
    index.apply(step, point(99)).unwrap();
    let hash = index.content_hash().unwrap();
    index.close().unwrap();
    let index = place.open().unwrap();
    assert_eq!((index.point(), index.rows()), (point(99), 199));
    assert_eq!(index.get(&key(7)).unwrap(), None);
    assert_eq!(index.get(&key(8)).unwrap(), Some(row(8)));
    assert_eq!(index.content_hash().unwrap(), hash);
    // Filled in another order, with other steps, by another realm.
    let another = indexes(&other, RealmId(Digest::of(b"another")));
    let again = another.open().unwrap();
    fill(&again, (8..200).rev().chain(0..7));
    assert_eq!(again.content_hash().unwrap(), hash);
    assert_eq!(again.live_bytes(), index.live_bytes());
    fill(&again, [7]);
    assert_ne!(again.content_hash().unwrap(), hash);
}

#[test]
fn rows_of_any_allowed_size_never_make_a_file_of_their_own() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    // Twice, so that pages with long rows are written again as a whole.
    for fill in [1u8, 2] {
        for number in 0..600u64 {
            let mut step = IndexStep::default();
            let mut key = key(number % 300);
            key.resize(INDEX_KEY_BYTES_MAX, fill % 2);
            step.put(key, vec![fill; INDEX_ROW_BYTES_MAX]);
            index.apply(step, point(number)).unwrap();
        }
    }
    index.sync().unwrap();
    let blobs = index.path().join("blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    for (key_bytes, bytes) in [
        (INDEX_KEY_BYTES_MAX + 1, 1),
        (9, INDEX_ROW_BYTES_MAX + 1),
        (1, 1),
    ] {
        let before = index.rows();
        let mut step = IndexStep::default();
        step.put(key(1_000), row(1));
        step.put(vec![0; key_bytes], vec![0; bytes]);
        let refused = index.apply(step, point(1_000));
        match key_bytes {
            // The head's key is nobody else's.
            1 => assert!(matches!(refused, Err(IndexError::TooLarge { .. }))),
            _ => assert!(
                refused
                    .unwrap_err()
                    .to_string()
                    .contains("none that an index takes")
            ),
        }
        assert_eq!(
            (index.rows(), index.get(&key(1_000)).unwrap()),
            (before, None)
        );
    }
}

#[test]
fn a_row_that_is_changed_lost_or_came_back_is_noticed_though_the_engine_is_content() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    fill(&index, 0..50);
    index.close().unwrap();
    let raw = engine(&place);
    let (third, fourth) = (raw.get(key(3)).unwrap().unwrap(), raw.get(key(4)).unwrap());
    let head = raw.get(b"\0").unwrap().unwrap();
    let mut bent = third.to_vec();
    *bent.last_mut().unwrap() ^= 1;
    drop(raw);
    type Harm<'a> = &'a dyn Fn(&sled::Db);
    let harms: [(&str, Harm<'_>); 6] = [
        ("changed", &|raw| drop(raw.insert(key(3), bent.clone()))),
        ("another's", &|raw| {
            drop(raw.insert(key(3), fourth.clone().unwrap()));
        }),
        ("short", &|raw| drop(raw.insert(key(3), &b"short"[..]))),
        ("lost", &|raw| drop(raw.remove(key(3)))),
        ("too many", &|raw| drop(raw.insert(key(777), &third))),
        ("head", &|raw| drop(raw.remove(b"\0"))),
    ];
    for (name, harm) in harms {
        let raw = engine(&place);
        harm(&raw);
        drop(raw);
        let noticed = match place.open() {
            Err(error) => error,
            Ok(index) => {
                let error = index.content_hash().expect_err(name);
                if ["changed", "another's", "short"].contains(&name) {
                    let read = index.get(&key(3)).expect_err(name);
                    assert!(matches!(read, IndexError::Damaged { .. }), "{name}: {read}");
                    let mut step = IndexStep::default();
                    step.put(key(3), row(3));
                    index.apply(step, point(9)).expect_err(name);
                }
                error
            }
        };
        assert!(
            matches!(noticed, IndexError::Damaged { .. }),
            "{name}: {noticed}"
        );
        let text = noticed.to_string();
        assert!(text.contains(place.path().to_str().unwrap()), "{text}");
        // Put right again.
        let raw = engine(&place);
        raw.insert(key(3), &third).unwrap();
        raw.remove(key(777)).unwrap();
        raw.insert(b"\0", &head).unwrap();
        drop(raw);
        place.open().unwrap().content_hash().unwrap();
    }
}

#[test]
fn the_index_of_another_realm_or_of_another_version_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    fill(&index, 0..5);
    index.close().unwrap();
    drop(place);
    let foreign = indexes(&dir, RealmId(Digest::of(b"another")));
    let refused = foreign.open().unwrap_err();
    assert!(
        matches!(refused, IndexError::WrongRealm { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("index/1"), "{refused}");
}

#[test]
fn what_an_end_in_the_middle_leaves_behind_is_no_hindrance() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    fill(&index, 0..50);
    let hash = index.content_hash().unwrap();
    let rewritten = place.rewrite(&index).unwrap();
    assert_eq!(rewritten.point(), index.point());
    assert_eq!(rewritten.content_hash().unwrap(), hash);
    // Killed before the old one was removed: the old one is gone on with.
    rewritten.close().unwrap();
    index.close().unwrap();
    fs::write(place.path().join("1/snap.00FF.generating"), b"half").unwrap();
    let index = place.open().unwrap();
    assert_eq!(index.path(), place.path().join("1"));
    assert_eq!(index.content_hash().unwrap(), hash);
    assert!(!place.path().join("2").exists());
    assert!(!place.path().join("1/snap.00FF.generating").exists());
    // And now it takes its place.
    let rewritten = place.rewrite(&index).unwrap();
    place.remove(index).unwrap();
    assert_eq!(rewritten.content_hash().unwrap(), hash);
    rewritten.close().unwrap();
    let index = place.open().unwrap();
    assert_ne!(index.path(), place.path().join("1"));
    assert_eq!(index.content_hash().unwrap(), hash);
}

#[test]
fn two_of_those_that_were_set_aside_are_kept_whatever_they_are() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    assert_eq!(place.set_aside().unwrap(), None);
    for round in 1..=4u64 {
        match round {
            2 => fs::write(place.path(), b"no directory").unwrap(),
            _ => fill(&place.open().unwrap(), 0..round),
        }
        if round == 2 {
            let refused = place.open().unwrap_err();
            assert!(refused.to_string().contains("index"), "{refused}");
        }
        let aside = place.set_aside().unwrap().unwrap();
        assert_eq!(aside, dir.path().join(format!("index.bad-{round}")));
        assert!(aside.exists() && !place.path().exists());
    }
    let kept = (1..=4).filter(|n| dir.path().join(format!("index.bad-{n}")).exists());
    assert_eq!(kept.collect::<Vec<u64>>(), [3, 4]);
    // A new one has a directory that no engine of this process ever had.
    let index = place.open().unwrap();
    assert_eq!((index.rows(), index.path()), (0, &*place.path().join("4")));
}

#[test]
fn an_index_that_has_outgrown_its_rows_says_so_and_is_small_when_written_anew() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    fill(&index, 0..10);
    assert!(!index.is_overgrown().unwrap());
    let bytes: Vec<u8> = (0..INDEX_ROW_BYTES_MAX * 2)
        .map(|at| ((at * at) >> 5) as u8)
        .collect();
    // More than may lie idle, and then nearly none of it.
    for some in (1_000..18_000u64).collect::<Vec<_>>().chunks(500) {
        let mut step = IndexStep::default();
        for number in some {
            let from = *number as usize % INDEX_ROW_BYTES_MAX;
            step.put(key(*number), bytes[from..][..INDEX_ROW_BYTES_MAX].to_vec());
        }
        index.apply(step, point(some[0])).unwrap();
    }
    assert!(!index.is_overgrown().unwrap());
    for some in (1_000..18_000u64).collect::<Vec<_>>().chunks(500) {
        let mut step = IndexStep::default();
        some.iter().for_each(|number| step.remove(key(*number)));
        index.apply(step, point(some[0])).unwrap();
    }
    assert!(
        index.is_overgrown().unwrap(),
        "{} bytes",
        index.disk_bytes().unwrap()
    );
    let new = place.rewrite(&index).unwrap();
    assert_eq!(new.content_hash().unwrap(), index.content_hash().unwrap());
    assert!(new.disk_bytes().unwrap() < 2 << 20 && !new.is_overgrown().unwrap());
    place.remove(index).unwrap();
}

/// Flips, cuts and zeroes: each is an error, or nothing was lost by it.
#[test]
fn damage_to_the_engine_s_files_is_an_error_or_shows_everything() {
    let dir = TempDir::new().unwrap();
    let place = indexes(&dir, realm());
    let index = place.open().unwrap();
    fill(&index, 0..2_000);
    let hash = index.content_hash().unwrap();
    index.close().unwrap();
    let own = place.path().join("1");
    let files: Vec<_> = fs::read_dir(&own)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let db = own.join("db");
    let whole = fs::read(&db).unwrap();
    // Most of the file is room: what is written there is elsewhere in each run.
    let used: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let (mut noticed, mut harmless, mut behind) = (0, 0, 0);
    for round in 0..24usize {
        let mut bytes = whole.clone();
        let at = used[round * 7_919 * 31 % used.len()];
        match round % 3 {
            0 => bytes[at] ^= 1 << (round % 8),
            1 => bytes.truncate(at),
            _ => bytes[at..]
                .iter_mut()
                .take(4_096)
                .for_each(|byte| *byte = 0),
        }
        fs::write(&db, &bytes).unwrap();
        let told = place.open().and_then(|index| {
            let found = index.content_hash()?;
            Ok((found, index.point()))
        });
        match told {
            Err(_) => noticed += 1,
            Ok((found, _)) if found == hash => harmless += 1,
            // It says itself that it follows less.
            Ok((_, IndexPoint { seq, .. })) if seq < Seq(200) => behind += 1,
            Ok((_, seen)) => panic!("round {round}: other content, said to be as of {seen:?}"),
        }
        fs::remove_dir_all(&own).unwrap();
        fs::create_dir(&own).unwrap();
        for (bytes, path) in &files {
            fs::write(path, bytes).unwrap();
        }
    }
    println!("{noticed} noticed, {harmless} harmless, {behind} behind");
    assert!(noticed + behind >= 8, "too little was noticed");
}

/// A child of the tests below.
#[test]
fn index_child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let lock = DirLock::acquire(Path::new(&dir)).unwrap();
    let place = Indexes::new(&lock, realm());
    let index = place.open().unwrap();
    println!("open");
    for number in 0..1_000_000u64 {
        let mut step = IndexStep::default();
        let bytes: Vec<u8> = (0..4_000u64)
            .map(|at| ((at * number * 31) >> 3) as u8)
            .collect();
        step.put(key(number), bytes);
        if let Err(error) = index.apply(step, point(number + 1)) {
            println!("refused {error}");
            let again = index.apply(IndexStep::default(), point(number + 2));
            println!("again {}", again.is_err());
            std::process::exit(0);
        }
    }
}

/// Files may not grow beyond a size, which is as near to a full disk as any user gets: the write of the
/// thread that flushes fails first.
#[test]
fn an_engine_that_cannot_write_says_so_and_stays_poisoned() {
    let dir = TempDir::new().unwrap();
    let tests = std::env::current_exe().unwrap();
    let script =
        "trap '' XFSZ; ulimit -f 12288; exec \"$0\" tests::index::index_child --exact --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(tests)
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let refused = said
        .lines()
        .find(|line| line.starts_with("refused"))
        .expect("no refusal");
    assert!(
        refused.contains(dir.path().join("index").to_str().unwrap()),
        "{said}"
    );
    assert!(said.contains("again true"), "{said}");
    // With room again it is whole as far as it says, or set aside.
    let place = indexes(&dir, realm());
    match place.open().and_then(|index| index.content_hash()) {
        Ok(_) => {}
        Err(_) => {
            place.set_aside().unwrap().unwrap();
            assert_eq!(place.open().unwrap().rows(), 0);
        }
    }
}

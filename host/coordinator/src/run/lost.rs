//! A journal that is gone, beside what is made only from one.
//!
//! Whoever begins anew there denies what was acknowledged. That there was a journal is certain: its first
//! records are durable before there is an index, and a file of it has ended before there is a snapshot or an
//! archive. So a first start that was killed, at whatever moment, is never taken for this.

use std::io;
use std::path::{Path, PathBuf};

use hearth_store::StoreError;
use hearth_wire::RealmId;

use crate::config::CoordinatorConfig;
use crate::error::CoordinatorError;

/// Refuses to begin anew in place of a journal that is gone, and changes nothing then. If the owner gives it
/// up, snapshots are put aside, since no other journal goes on from them.
pub(super) fn look(
    config: &CoordinatorConfig,
    data: &Path,
    archive: &Path,
    realm: RealmId,
) -> Result<(), CoordinatorError> {
    let journal = data.join("journal");
    // What else may be there, as the ballast or what a mounted disk has of itself, says nothing.
    let begun = |name: &str| name == "durable.mark" || name.ends_with(".journal");
    if find(&journal, begun)?.is_some() {
        return Ok(());
    }
    let snapshots = data.join("snapshots");
    let snapshot = find(&snapshots, |name| name.ends_with(".snapshot"))?;
    let index = find(&data.join("index"), |name| name.parse::<u64>().is_ok())?;
    let archived = archived(archive, realm);
    let is_snapshot = snapshot.is_some();
    let Some(proof) = snapshot.or(index).or(archived) else {
        return Ok(());
    };
    if !config.trust_journal_end {
        return Err(CoordinatorError::JournalLost {
            journal,
            proof,
            data: data.to_owned(),
        });
    }
    let aside = is_snapshot.then(|| put_aside(&snapshots)).transpose()?;
    tracing::warn!(
        journal = %journal.display(),
        proof = %proof.display(),
        ?aside,
        "the journal is gone and given up, as --trust-journal-end says"
    );
    Ok(())
}

/// The file that says that an archive is this realm's, if it does. One that is away says nothing.
fn archived(archive: &Path, realm: RealmId) -> Option<PathBuf> {
    let path = archive.join("archive.realm");
    let owner = std::fs::read_to_string(&path).ok()?;
    owner.contains(&realm.to_string()).then_some(path)
}

/// Something in a folder whose name is wanted.
fn find(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>, StoreError> {
    let failed = |source| StoreError::Io {
        action: "listing",
        path: dir.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return Ok(None),
            _ => return Err(failed(error)),
        },
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(&wanted) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Gives a folder a name that nothing has. Whoever makes it again syncs the folder around both.
fn put_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    let aside = loop {
        let aside = dir.with_extension(format!("lost-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    std::fs::rename(dir, &aside).map_err(|source| StoreError::Io {
        action: "moving aside",
        path: dir.to_owned(),
        source,
    })?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hearth_wire::Digest;
    use tempfile::TempDir;

    use super::*;

    fn realm() -> RealmId {
        RealmId(Digest::of(b"a realm"))
    }

    /// The data folder of a realm with these files.
    fn data(files: &[&str]) -> TempDir {
        let data = TempDir::new().unwrap();
        for file in files {
            let path = data.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("the archive of realm {}\n", realm())).unwrap();
        }
        data
    }

    fn looked(data: &TempDir, realm: RealmId, trust: bool) -> Result<(), CoordinatorError> {
        let mut config = CoordinatorConfig::new(data.path(), Vec::new());
        config.trust_journal_end = trust;
        look(&config, data.path(), &data.path().join("archive"), realm)
    }

    #[test]
    fn a_new_realm_or_a_first_start_that_was_killed_is_no_loss() {
        looked(&data(&[]), realm(), false).unwrap();
        for files in [
            ["journal/ballast", "snapshots/unfinished"],
            ["journal/lost+found", "index/lost+found"],
            ["hearth.lock", "index"],
            ["journal/durable.mark", "index/1/db"],
            ["journal/00000000000000000001.journal", "index/1/db"],
        ] {
            looked(&data(&files), realm(), false).unwrap();
        }
        let others = RealmId(Digest::of(b"another realm"));
        looked(&data(&["archive/archive.realm"]), others, false).unwrap();
    }

    #[test]
    fn an_empty_journal_beside_what_follows_from_one_is_refused() {
        for file in [
            "index/1/db",
            "snapshots/00000000000000000007.snapshot",
            "archive/archive.realm",
        ] {
            for emptied in [false, true] {
                let beside = if emptied {
                    "journal/ballast"
                } else {
                    "hearth.lock"
                };
                let data = data(&[file, beside]);
                let error = looked(&data, realm(), false).unwrap_err();
                assert!(
                    matches!(error, CoordinatorError::JournalLost { .. }),
                    "{error}"
                );
                let folder = file.split('/').next().unwrap();
                let told = error.to_string();
                for name in ["journal", folder] {
                    let path = data.path().join(name);
                    assert!(told.contains(path.to_str().unwrap()), "{told}");
                }
                assert!(told.contains("--trust-journal-end"), "{told}");
                assert!(data.path().join(file).exists(), "{file} is where it was");
                assert_eq!(data.path().join("journal").exists(), emptied);
                looked(&data, realm(), true).unwrap();
            }
        }
    }

    #[test]
    fn snapshots_of_a_journal_that_is_given_up_are_put_aside() {
        let name = "00000000000000000007.snapshot";
        let snapshot = format!("snapshots/{name}");
        let data = data(&[snapshot.as_str(), "snapshots.lost-1/other"]);
        looked(&data, realm(), true).unwrap();
        assert!(data.path().join("snapshots.lost-2").join(name).exists());
        assert!(!data.path().join("snapshots").exists());
        looked(&data, realm(), false).unwrap();
    }
}

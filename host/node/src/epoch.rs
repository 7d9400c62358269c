//! The highest epoch that this node has seen, kept over restarts.
//!
//! A coordinator below it was restored from a backup or is a forgotten second one: what it leases may
//! be long done, and what it believes is outdated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hearth_wire::{Epoch, codec};

/// Why a coordinator is not believed to be the realm's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EpochError {
    #[error(
        "the coordinator is at epoch {offered}, this node has seen {seen}: it was restored from an old backup; its owner must fork it above that epoch"
    )]
    Old { offered: Epoch, seen: Epoch },
    #[error(
        "the coordinator is at epoch {offered}, but {seen} was another one: two coordinators run on copies of one directory; its owner must stop one"
    )]
    Fork { offered: Epoch, seen: Epoch },
    #[error("the epoch cannot be kept: {0}; check the disk of this node")]
    Io(String),
}

#[derive(Debug)]
pub(crate) struct Seen {
    path: PathBuf,
    epoch: Epoch,
}

impl Seen {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("epoch");
        let epoch = match fs::read(&path) {
            Ok(bytes) => codec::decode(&bytes, 64)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Epoch::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, epoch })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes the epoch of a coordinator, durably if it is new.
    pub(crate) fn accept(&mut self, offered: Epoch) -> Result<(), EpochError> {
        let seen = self.epoch;
        if offered == seen {
            return Ok(());
        }
        if offered.counter < seen.counter {
            return Err(EpochError::Old { offered, seen });
        }
        if offered.counter == seen.counter && seen != Epoch::default() {
            return Err(EpochError::Fork { offered, seen });
        }
        self.write(offered)
            .map_err(|error| EpochError::Io(error.to_string()))?;
        self.epoch = offered;
        Ok(())
    }

    fn write(&self, epoch: Epoch) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&codec::encode(&epoch))?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_only_rise_and_never_fork() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = |counter, incarnation| Epoch {
            counter,
            incarnation,
        };
        let mut seen = Seen::open(dir.path()).unwrap();
        seen.accept(epoch(3, 9)).unwrap();
        seen.accept(epoch(3, 9)).unwrap();
        let mut seen = Seen::open(dir.path()).unwrap();
        assert!(matches!(
            seen.accept(epoch(2, 10)),
            Err(EpochError::Old { .. })
        ));
        for incarnation in [8, 10] {
            assert!(matches!(
                seen.accept(epoch(3, incarnation)),
                Err(EpochError::Fork { .. })
            ));
        }
        seen.accept(epoch(4, 1)).unwrap();
        assert_eq!(Seen::open(dir.path()).unwrap().epoch(), epoch(4, 1));
        fs::write(dir.path().join("epoch"), b"rubbish").unwrap();
        assert!(Seen::open(dir.path()).is_err());
    }
}

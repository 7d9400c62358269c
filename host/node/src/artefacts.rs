//! Compiled components, sealed with a key of this node.
//!
//! Loading machine code is as good as running it, so nothing is taken from this cache that this node
//! did not put there itself: every file carries an HMAC-SHA256 over its name and its bytes, made with
//! a key that never leaves the machine and that no runner sees. The name binds component, engine, kind
//! of machine code and what was granted, so a file cannot stand in for another one either, and profiles
//! and builds of the program that share a directory do not find each other's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hearth_wire::limits::RUNNER_FRAME_BYTES_MAX;
use hearth_wire::{Digest, EngineId, Hasher, TaskLimits};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const MAGIC: &[u8; 8] = b"HRTHART1";
const TAG_BYTES: usize = 32;

/// Names an artefact: all that the machine code and the verdict "may run" depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtefactName {
    component: Digest,
    made_by: Digest,
}

impl ArtefactName {
    /// The name of what `engine` makes of `component` when `imports` are granted within `limits`, in
    /// machine code of the kind `code`: what [`hearth_wire::runner::Ready`] says.
    pub fn new(
        component: Digest,
        engine: &EngineId,
        code: Digest,
        imports: &[String],
        limits: &TaskLimits,
    ) -> Self {
        let hasher = Hasher::with_domain("hearth.artefact.v2")
            .number(engine.version[0].into())
            .number(engine.version[1].into())
            .number(engine.version[2].into())
            .raw(engine.semantics.as_bytes())
            .field(code.as_bytes())
            .number(limits.memory_bytes)
            .number(limits.table_elements.into())
            .number(imports.len() as u64);
        let made_by = imports
            .iter()
            .fold(hasher, |hasher, import| hasher.field(import.as_bytes()))
            .finish();
        Self { component, made_by }
    }

    fn file(&self) -> String {
        format!(
            "{}-{}.artefact",
            self.component,
            &self.made_by.to_string()[..32]
        )
    }
}

/// The cache's directory or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; check the directory's owner and free space")]
pub struct ArtefactError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

enum Place {
    Disk {
        dir: PathBuf,
        key: hmac::Key,
    },
    /// The oldest first.
    Memory(Mutex<Vec<(ArtefactName, Arc<[u8]>)>>),
}

/// The cache. Its calls block; they are made from threads that may.
pub struct Artefacts {
    place: Place,
    bytes_max: u64,
}

impl std::fmt::Debug for Artefacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artefacts").finish_non_exhaustive()
    }
}

impl Artefacts {
    /// A cache that lives as long as the process.
    pub fn in_memory(bytes_max: u64) -> Self {
        Self {
            place: Place::Memory(Mutex::default()),
            bytes_max,
        }
    }

    /// The cache in `dir/cache/artefacts`, sealed with `dir/seal.key`, which is made if it is not
    /// there (everything sealed with another one is then made again).
    ///
    /// # Errors
    ///
    /// When the directory or the key cannot be made or read.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, ArtefactError> {
        let cache = dir.join("cache").join("artefacts");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ArtefactError { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cache)
            .map_err(at(&cache))?;
        let key_path = dir.join("seal.key");
        let key = seal_key(&key_path).map_err(at(&key_path))?;
        let artefacts = Self {
            place: Place::Disk {
                dir: cache.clone(),
                key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            },
            bytes_max,
        };
        artefacts.evict().map_err(at(&cache))?;
        Ok(artefacts)
    }

    /// The artefact of this name, if it is there and bears our seal. One that does not is removed.
    pub fn get(&self, name: &ArtefactName) -> Option<Arc<[u8]>> {
        let (dir, key) = match &self.place {
            Place::Disk { dir, key } => (dir, key),
            Place::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(|poison| poison.into_inner());
                let at = kept.iter().position(|(kept, _)| kept == name)?;
                let entry = kept.remove(at);
                let bytes = Arc::clone(&entry.1);
                kept.push(entry);
                return Some(bytes);
            }
        };
        let path = dir.join(name.file());
        match read_sealed(&path, name, key) {
            Ok(Some(bytes)) => {
                // The time of the last use is what eviction goes by; failing to note it costs a recompile.
                let _stale = File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_modified(SystemTime::now()));
                Some(bytes)
            }
            Ok(None) => {
                tracing::warn!(path = %path.display(), "an artefact does not bear this node's seal: it is compiled again");
                let _gone = fs::remove_file(&path);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an artefact cannot be read: it is compiled again");
                None
            }
        }
    }

    /// Keeps an artefact that this node's compile process made, and drops the least recently used
    /// ones that no longer fit.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the cache is then as before.
    pub fn put(&self, name: &ArtefactName, artefact: &Arc<[u8]>) -> io::Result<()> {
        let (dir, key) = match &self.place {
            Place::Disk { dir, key } => (dir, key),
            Place::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(|poison| poison.into_inner());
                kept.retain(|(kept, _)| kept != name);
                kept.push((*name, Arc::clone(artefact)));
                let mut total: u64 = kept.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                while total > self.bytes_max && kept.len() > 1 {
                    total -= kept.remove(0).1.len() as u64;
                }
                return Ok(());
            }
        };
        let tag = seal(key, name, artefact);
        let temporary = dir.join(format!("{}.tmp-{}", name.file(), std::process::id()));
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(MAGIC)?;
                file.write_all(tag.as_ref())?;
                file.write_all(artefact)
            })
            // No sync: a torn file does not bear the seal and is made again.
            .and_then(|()| fs::rename(&temporary, dir.join(name.file())));
        if written.is_err() {
            let _gone = fs::remove_file(&temporary);
        }
        written?;
        self.evict()
    }

    /// Removes what was left half written, and the least recently used until the rest fits.
    fn evict(&self) -> io::Result<()> {
        let Place::Disk { dir, .. } = &self.place else {
            return Ok(());
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let ours = entry.file_name().to_string_lossy().ends_with(".artefact");
            if ours {
                files.push((meta.modified()?, meta.len(), entry.path()));
            } else if meta
                .modified()?
                .elapsed()
                .is_ok_and(|age| age.as_secs() > 600)
            {
                let _gone = fs::remove_file(entry.path());
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if total <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }
}

fn seal(key: &hmac::Key, name: &ArtefactName, artefact: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(MAGIC);
    context.update(name.component.as_bytes());
    context.update(name.made_by.as_bytes());
    context.update(artefact);
    context.sign()
}

/// `None` if the file is not one that we sealed under this name.
fn read_sealed(path: &Path, name: &ArtefactName, key: &hmac::Key) -> io::Result<Option<Arc<[u8]>>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(RUNNER_FRAME_BYTES_MAX as u64)
        .read_to_end(&mut bytes)?;
    let head = MAGIC.len() + TAG_BYTES;
    if bytes.len() < head || !bytes.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut context = Vec::with_capacity(64 + bytes.len());
    context.extend_from_slice(MAGIC);
    context.extend_from_slice(name.component.as_bytes());
    context.extend_from_slice(name.made_by.as_bytes());
    context.extend_from_slice(&bytes[head..]);
    let genuine = hmac::verify(key, &context, &bytes[MAGIC.len()..head]).is_ok();
    Ok(genuine.then(|| Arc::from(&bytes[head..])))
}

fn seal_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match File::open(path) {
        Ok(mut file) => match file.read_exact(&mut key) {
            Ok(()) => return Ok(key),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                fs::remove_file(path)?;
            }
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let created = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(mut file) => {
            file.write_all(&key)?;
            Ok(key)
        }
        // Two processes of one owner may start at once; the first one's key counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            File::open(path)?.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(component: &[u8]) -> ArtefactName {
        let engine = EngineId {
            version: [48, 0, 8],
            semantics: Digest::of(b"semantics"),
        };
        let (component, code) = (Digest::of(component), Digest::of(b"code"));
        ArtefactName::new(component, &engine, code, &[], &TaskLimits::default())
    }

    fn artefact(byte: u8) -> Arc<[u8]> {
        Arc::from(vec![byte; 1000])
    }

    #[test]
    fn what_this_node_did_not_seal_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Artefacts::open(dir.path(), 1 << 20).unwrap();
        let (one, two) = (name(b"one"), name(b"two"));
        cache.put(&one, &artefact(1)).unwrap();
        assert_eq!(cache.get(&one), Some(artefact(1)));
        assert_eq!(cache.get(&two), None);

        // Another start finds it.
        let cache = Artefacts::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(cache.get(&one), Some(artefact(1)));

        // One artefact in the place of another, a flipped bit, a cut file, rubbish.
        let path = |name: &ArtefactName| dir.path().join("cache/artefacts").join(name.file());
        let genuine = fs::read(path(&one)).unwrap();
        let mut flipped = genuine.clone();
        flipped[500] ^= 1;
        for bad in [&flipped, &genuine[..genuine.len() - 1], b"rubbish"] {
            fs::write(path(&one), bad).unwrap();
            assert_eq!(cache.get(&one), None);
            assert!(!path(&one).exists());
        }
        fs::write(path(&two), &genuine).unwrap();
        assert_eq!(cache.get(&two), None);

        // With another key nothing counts.
        fs::write(path(&one), &genuine).unwrap();
        fs::remove_file(dir.path().join("seal.key")).unwrap();
        let cache = Artefacts::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(cache.get(&one), None);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        for cache in [
            Artefacts::open(dir.path(), 2500).unwrap(),
            Artefacts::in_memory(2500),
        ] {
            let pause = || std::thread::sleep(Duration::from_millis(15));
            cache.put(&name(b"a"), &artefact(1)).unwrap();
            pause();
            cache.put(&name(b"b"), &artefact(2)).unwrap();
            pause();
            assert!(cache.get(&name(b"a")).is_some());
            pause();
            cache.put(&name(b"c"), &artefact(3)).unwrap();
            assert!(cache.get(&name(b"a")).is_some());
            assert!(cache.get(&name(b"b")).is_none());
            assert!(cache.get(&name(b"c")).is_some());
        }
    }

    #[test]
    fn names_differ_by_all_that_matters() {
        let engine = EngineId {
            version: [48, 0, 8],
            semantics: Digest::of(b"semantics"),
        };
        let limits = TaskLimits::default();
        let code = Digest::of(b"native");
        let base = ArtefactName::new(Digest::of(b"c"), &engine, code, &[], &limits);
        let newer = EngineId {
            version: [48, 0, 9],
            ..engine
        };
        let wider = TaskLimits {
            memory_bytes: 1,
            ..limits
        };
        let component = Digest::of(b"c");
        for other in [
            ArtefactName::new(component, &newer, code, &[], &limits),
            ArtefactName::new(component, &engine, Digest::of(b"pulley"), &[], &limits),
            ArtefactName::new(component, &engine, code, &["x".to_owned()], &limits),
            ArtefactName::new(component, &engine, code, &[], &wider),
            ArtefactName::new(Digest::of(b"d"), &engine, code, &[], &limits),
        ] {
            assert_ne!(base.file(), other.file());
        }
    }
}

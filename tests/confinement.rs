//! Processes that run guest code hold nothing worth stealing.

use std::fs;
use std::path::Path;

use crate::support::{Realm, cpu_ticks, descendants, eventually};

/// An exponent that keeps a core busy for longer than this test looks.
const LONG: u64 = 11_213;

/// Processes below one that are there for guests, and the rest of them.
fn for_guests(of: u32) -> (Vec<u32>, Vec<u32>) {
    descendants(of).into_iter().partition(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("__runner") || line.contains("__compiler")
    })
}

/// The 32 secret bytes of a private key's file, P-256's or Ed25519's: as a process that has loaded the key
/// holds them, not as the file spells them.
fn secret(path: &Path) -> Vec<u8> {
    use base64::Engine as _;
    let text = fs::read_to_string(path).unwrap();
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let document = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    // The octet string of an `ECPrivateKey`, or the one within that of an Ed25519 key.
    let marks: [&[u8]; 2] = [&[2, 1, 1, 4, 32], &[4, 34, 4, 32]];
    let at = marks.iter().find_map(|mark| {
        let at = document.windows(mark.len()).position(|w| w == *mark)?;
        Some(at + mark.len())
    });
    let at = at.expect("a key in PKCS#8");
    document[at..at + 32].to_vec()
}

/// Targets of a process's open descriptors.
fn descriptors(pid: u32) -> Vec<String> {
    let folder = Path::new("/proc").join(pid.to_string()).join("fd");
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// Inodes of all sockets that are not Unix sockets, as a process sees them.
fn network_sockets(pid: u32) -> Vec<String> {
    let mut inodes = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else {
            continue;
        };
        inodes.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(9))
                .map(|inode| format!("socket:[{inode}]")),
        );
    }
    inodes
}

#[test]
fn guest_processes_hold_no_key_and_no_socket() {
    let realm = Realm::start();
    let coordinator = realm.coordinator.as_ref().unwrap().id();
    let node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[LONG; 6], &["--place", "volunteers"]);
    let home = realm.submit_mersenne(&[LONG; 6], &["--trust", "local"]);
    // The node itself has a network socket: the test can see one.
    let sockets = network_sockets(node.id());
    assert!(
        descriptors(node.id())
            .iter()
            .any(|descriptor| sockets.contains(descriptor))
    );
    let realm_keys = ["online.key", "ca.key", "coordinator.key"].map(|name| realm.dir().join(name));
    for (name, parent, keys) in [
        ("ada", node.id(), vec![realm.path("ada").join("node.key")]),
        ("the coordinator", coordinator, realm_keys.to_vec()),
    ] {
        let keys: Vec<_> = keys.iter().map(|key| secret(key)).collect();
        assert!(
            keys.iter().any(|key| holds(parent, key)),
            "a key of {name} is found where it must be, so not to find it elsewhere means something"
        );
        // A guest is at work in a runner: nothing else uses that much of the processor there.
        eventually(&format!("a guest at work under {name}"), || {
            let (runners, _) = for_guests(parent);
            runners.iter().any(|pid| cpu_ticks(*pid) > 50).then_some(())
        });
        let (guests, others) = for_guests(parent);
        assert!(!guests.is_empty());
        // Besides those there is the coordinator's local host alone, which hands work to runners.
        assert_eq!(
            others.len(),
            usize::from(parent == coordinator),
            "{others:?}"
        );
        guests.iter().for_each(|pid| holds_nothing(*pid, &keys));
    }
    realm.ok(&["cancel", &job]);
    realm.ok(&["cancel", &home]);
}

#[test]
fn compile_processes_hold_no_key_and_no_socket() {
    let realm = Realm::start();
    let node = realm.volunteer("ada", &[]);
    let key = secret(&realm.path("ada").join("node.key"));
    assert!(holds(node.id(), &key));
    let component = realm.path("long.component.wasm");
    fs::write(&component, long_to_compile()).unwrap();
    let input = realm.file("input", "input");
    let component = component.to_str().unwrap();
    let job = realm.json(&["submit", component, &input, "--place", "volunteers"]);
    let job = job[0]["job"].as_str().unwrap();
    // At work: it stands behind its walls by then.
    let compiler = eventually("a compiler at work", || {
        for_guests(node.id()).0.into_iter().find(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("__compiler") && cpu_ticks(*pid) > 20
        })
    });
    holds_nothing(compiler, &[key]);
    realm.ok(&["cancel", job]);
}

/// A guest with so many functions that compiling it takes seconds.
fn long_to_compile() -> Vec<u8> {
    let body = "(local.set $n (i64.mul (i64.add (local.get $n) (i64.const 7)) (i64.const 3)))";
    let many = format!("(func (local $n i64) {})", body.repeat(40)).repeat(20_000);
    let guest = hostile::GUESTS
        .iter()
        .find(|guest| guest.name == "endless-loop")
        .unwrap();
    let (start, _) = guest.wat.trim_end().rsplit_once(')').unwrap();
    let wat = format!("{start}{many})");
    hostile::Guest {
        wat: wat.leak(),
        ..*guest
    }
    .component()
    .unwrap()
}

/// A guest's process, or one that compiles: no socket of a network, no file, no privilege, no key.
fn holds_nothing(pid: u32, keys: &[Vec<u8>]) {
    let open = descriptors(pid);
    let network = network_sockets(pid);
    for descriptor in &open {
        assert!(
            !network.contains(descriptor),
            "{pid} has a network socket: {descriptor}"
        );
        let harmless = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"];
        assert!(
            harmless.iter().any(|prefix| descriptor.starts_with(prefix)),
            "{pid} has {descriptor} open: {open:?}"
        );
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default()
            .trim_start_matches(':')
            .trim()
            .to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2", "a filter is in force");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.is_empty(), "{pid} has an environment");
    for key in keys {
        assert!(!holds(pid, key), "{pid} has a key in its memory");
    }
}

/// Whether a process has these bytes anywhere in its memory.
fn holds(pid: u32, secret: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect(
        "memory that cannot be read is not known to be clean: run the tests as the same user",
    );
    let regions = maps
        .lines()
        .filter(|line| line.contains(" rw") && !line.contains("[vvar"));
    let mut buffer = vec![0; 1 << 20];
    for region in regions {
        let range = region.split(' ').next().unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let (mut at, end) = (
            u64::from_str_radix(start, 16).unwrap(),
            u64::from_str_radix(end, 16).unwrap(),
        );
        // Reserved but untouched memory of guests is gigabytes of zeros that the kernel does not hold.
        if end - at > 256 << 20 {
            continue;
        }
        while at < end {
            let want = (end - at).min(buffer.len() as u64) as usize;
            let Ok(read @ 1..) = memory.read_at(&mut buffer[..want], at) else {
                break;
            };
            if buffer[..read]
                .windows(secret.len())
                .any(|window| window == secret)
            {
                return true;
            }
            at += read as u64;
        }
    }
    false
}

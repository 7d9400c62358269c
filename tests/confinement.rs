//! Processes that run guest code hold nothing worth stealing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{Realm, eventually};

/// Parent of each process.
fn parents() -> BTreeMap<u32, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name is in parentheses and may hold anything; the parent is the second field behind it.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = rest
            .split_whitespace()
            .nth(1)
            .and_then(|parent| parent.parse().ok())
        {
            found.insert(pid, parent);
        }
    }
    found
}

fn children(of: u32) -> Vec<u32> {
    parents()
        .into_iter()
        .filter(|(_, parent)| *parent == of)
        .map(|(pid, _)| pid)
        .collect()
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
    let node = realm.volunteer("ada", &[]);
    let job = realm.submit_mersenne(&[9689, 9689, 9689, 9689], &[]);
    let runners = eventually("runners at work", || {
        let found: Vec<_> = children(node.id())
            .into_iter()
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.contains("__runner"))
            })
            .collect();
        (!found.is_empty()).then_some(found)
    });
    // The node itself has a network socket: the test can see one.
    let sockets = network_sockets(node.id());
    assert!(
        descriptors(node.id())
            .iter()
            .any(|descriptor| sockets.contains(descriptor))
    );
    for pid in runners {
        let open = descriptors(pid);
        let network = network_sockets(pid);
        for descriptor in &open {
            assert!(
                !network.contains(descriptor),
                "runner {pid} has a network socket: {descriptor}"
            );
            assert!(
                !descriptor.ends_with(".key") && !descriptor.ends_with(".pem"),
                "runner {pid} has {descriptor}"
            );
            let harmless = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"];
            assert!(
                harmless.iter().any(|prefix| descriptor.starts_with(prefix)),
                "runner {pid} has {descriptor} open: {open:?}"
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
        assert!(environment.is_empty(), "runner {pid} has an environment");
        let key = fs::read(realm.path("ada").join("node.key")).unwrap();
        let secret = key
            .split(|byte| *byte == b'\n')
            .max_by_key(|line| line.len())
            .unwrap();
        assert!(
            secret.len() > 16 && !holds(pid, secret),
            "runner {pid} has the node's key in its memory"
        );
    }
    realm.ok(&["cancel", &job]);
}

/// Whether a process has these bytes anywhere in its memory.
fn holds(pid: u32, secret: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return false;
    };
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

//! `hearth.toml`: what an owner may set, with every default written out and commented.
//!
//! Read once at the start; command-line options win. Unknown keys are refused, because a misspelt
//! limit is no limit.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use hearth_coordinator::CoordinatorConfig;
use hearth_net::shutdown::GRACE_MAX;
use hearth_wire::limits::{IDEMPOTENCY_KEYS_MAX, OPEN_TASKS_MAX};
use hearth_wire::{KeyId, ReleaseId, TaskType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::args::NodeArgs;
use super::exit::{Context, Failure, Kind};
use super::places;

/// Name of the file, in a realm's directory and in a node's.
pub(crate) const FILE: &str = "hearth.toml";

/// What the owner of a coordinator may set. The defaults are what the file's comments show.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CoordinatorFile {
    pub(crate) listen: Vec<SocketAddr>,
    /// An address, or empty for none.
    pub(crate) api: String,
    pub(crate) api_hosts: Vec<String>,
    pub(crate) local_host: bool,
    pub(crate) local_cores: u16,
    pub(crate) local_memory_mib: u64,
    pub(crate) announce: bool,
    pub(crate) open_tasks_per_author: u64,
    pub(crate) submissions_per_second: u32,
    pub(crate) blob_gib_max: u64,
    pub(crate) disk_reserve_mib: u64,
    pub(crate) ballast_mib: u64,
    pub(crate) archive: PathBuf,
    pub(crate) ended_jobs_max: usize,
    pub(crate) unused_files_hours: u64,
    pub(crate) shutdown_seconds: u64,
    pub(crate) default_releases: BTreeMap<TaskType, ReleaseId>,
}

impl Default for CoordinatorFile {
    fn default() -> Self {
        let listen = vec![SocketAddr::from(([0, 0, 0, 0], 7420))];
        let config = CoordinatorConfig::new("", listen);
        Self {
            listen: config.listen,
            api: String::new(),
            api_hosts: Vec::new(),
            local_host: true,
            local_cores: machine_cores(),
            local_memory_mib: machine_memory_mib() / 2,
            announce: true,
            open_tasks_per_author: config.open_tasks_per_author,
            submissions_per_second: config.submissions_per_second,
            blob_gib_max: config.blob_bytes_max >> 30,
            disk_reserve_mib: config.disk_reserve_bytes >> 20,
            ballast_mib: config.ballast_bytes >> 20,
            archive: config.archive,
            ended_jobs_max: config.ended_jobs_max,
            unused_files_hours: config.unused_files_kept.as_secs() / 3_600,
            shutdown_seconds: config.shutdown_grace.as_secs(),
            default_releases: BTreeMap::new(),
        }
    }
}

impl CoordinatorFile {
    /// Refuses numbers that no coordinator could work with.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        within("local_cores", self.local_cores, 1..=CORES_MAX)?;
        within("local_memory_mib", self.local_memory_mib, MEMORY_MIB)?;
        within(
            "open_tasks_per_author",
            self.open_tasks_per_author,
            1..=OPEN_TASKS_MAX,
        )?;
        within(
            "submissions_per_second",
            self.submissions_per_second,
            1..=1_000_000,
        )?;
        within("blob_gib_max", self.blob_gib_max, DISK_GIB)?;
        within("disk_reserve_mib", self.disk_reserve_mib, RESERVE_MIB)?;
        within("ballast_mib", self.ballast_mib, BALLAST_MIB)?;
        within(
            "ended_jobs_max",
            self.ended_jobs_max,
            1..=IDEMPOTENCY_KEYS_MAX,
        )?;
        within("unused_files_hours", self.unused_files_hours, UNUSED_HOURS)?;
        within("shutdown_seconds", self.shutdown_seconds, GRACE_SECONDS)?;
        if self.archive.as_os_str().is_empty() {
            return Err(Failure::rejected(format!("archive in {FILE} is empty"))
                .next("name a folder, or put a # before the line to get the default"));
        }
        Ok(())
    }
}

/// More are no machine that exists.
const CORES_MAX: u16 = 1_024;
/// From what one small guest needs to 16 TiB.
const MEMORY_MIB: RangeInclusive<u64> = 64..=16 << 20;
/// Up to a pebibyte.
const DISK_GIB: RangeInclusive<u64> = 1..=1 << 20;
/// None at all to a tebibyte, which is a twentieth of a large disk.
const RESERVE_MIB: RangeInclusive<u64> = 0..=1 << 20;
/// None at all to what a busy journal takes in a day.
const BALLAST_MIB: RangeInclusive<u64> = 0..=64 << 10;
/// A day, since whoever uploads may submit tomorrow, to a year.
const UNUSED_HOURS: RangeInclusive<u64> = 24..=366 * 24;
/// None at all to the longest that a shutdown waits.
const GRACE_SECONDS: RangeInclusive<u64> = 0..=GRACE_MAX.as_secs();

/// Refuses a number out of its bounds, by the name of its key.
fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<(), Failure> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(
        Failure::rejected(format!("{key} in {FILE} is {value}, not {least} to {most}"))
            .next("mend the file, or put a # before the line to get the default"),
    )
}

/// What a coordinator's file says at first.
pub(crate) fn coordinator_template(listen: SocketAddr) -> String {
    let CoordinatorFile {
        listen: _,
        api,
        api_hosts: _,
        local_host,
        local_cores,
        local_memory_mib,
        announce,
        open_tasks_per_author,
        submissions_per_second,
        blob_gib_max,
        disk_reserve_mib,
        ballast_mib,
        archive,
        ended_jobs_max,
        unused_files_hours,
        shutdown_seconds,
        default_releases: _,
    } = CoordinatorFile::default();
    let archive = archive.display();
    format!(
        "# Configuration of this realm's coordinator. What is commented out is the default.

# Addresses for nodes and clients (TLS, client certificates).
listen = [\"{listen}\"]

# The API without TLS for tools on this machine: a loopback address like 127.0.0.1:7421, or nothing.
# Wants a bearer token (`hearth token add`) and a Host header of this address or of api_hosts.
# api = \"{api}\"
# api_hosts = []

# Whether the coordinator starts a local host: it runs what no volunteer can take in time.
# local_host = {local_host}
# Its cores (all of this machine's) and the memory of its guests, MiB (half of this machine's).
# local_cores = {local_cores}
# local_memory_mib = {local_memory_mib}

# Whether nodes on the local network may find this coordinator by multicast DNS. Loopback addresses
# are never announced.
# announce = {announce}

# Tasks of one author that may be open, and submissions of one author a second.
# open_tasks_per_author = {open_tasks_per_author}
# submissions_per_second = {submissions_per_second}

# Disk for components, inputs and outputs, GiB.
# blob_gib_max = {blob_gib_max}

# Disk that stays free, MiB: with less, new work is refused and what runs goes on. And disk that is kept
# taken, MiB, to be given up when a write of the journal does not fit; 0 for none.
# disk_reserve_mib = {disk_reserve_mib}
# ballast_mib = {ballast_mib}

# Where files of the journal go that the next start does not need: from this folder on, or an absolute
# path, which may be on another, larger disk. Results of old jobs are read there, and sometimes a start reads
# all of it: keep them, and move them with the coordinator stopped.
# archive = \"{archive}\"

# Jobs that have ended and stay in the list, with their outputs; the first to end goes first. And how long
# an uploaded file stays that no job needs, hours since somebody last asked for it.
# ended_jobs_max = {ended_jobs_max}
# unused_files_hours = {unused_files_hours}

# How long a shutdown waits for what is under way.
# shutdown_seconds = {shutdown_seconds}

# Which release runs a bare processing task of a type (POST /v1/tasks), one line for each type:
#   verification = \"the release's id, 64 hexadecimal digits\"
# [default_releases]
"
    )
}

/// What the owner of a volunteering machine may set. The defaults are what the file's comments show.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeFile {
    pub(crate) name: String,
    pub(crate) location: String,
    pub(crate) capabilities: Vec<String>,
    pub(crate) cores: u16,
    pub(crate) memory_mib: u64,
    pub(crate) throttle: u8,
    pub(crate) nice: i32,
    pub(crate) follow_load: bool,
    pub(crate) allow_authors: Vec<KeyId>,
    pub(crate) deny_authors: Vec<KeyId>,
    pub(crate) cache_gib_max: u64,
    pub(crate) drain_seconds: u64,
    pub(crate) addresses: Vec<String>,
    pub(crate) discover: bool,
}

impl Default for NodeFile {
    fn default() -> Self {
        Self {
            name: places::host_name(),
            location: String::new(),
            capabilities: Vec::new(),
            cores: default_cores(),
            memory_mib: default_memory_mib(),
            throttle: 100,
            nice: 10,
            follow_load: false,
            allow_authors: Vec::new(),
            deny_authors: Vec::new(),
            cache_gib_max: 4,
            drain_seconds: 20,
            addresses: Vec::new(),
            discover: true,
        }
    }
}

impl NodeFile {
    /// Refuses numbers that no node could work with.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        within("cores", self.cores, 1..=CORES_MAX)?;
        within("memory_mib", self.memory_mib, MEMORY_MIB)?;
        within("throttle", self.throttle, 1..=100)?;
        within("nice", self.nice, 0..=19)?;
        within("cache_gib_max", self.cache_gib_max, DISK_GIB)?;
        within("drain_seconds", self.drain_seconds, GRACE_SECONDS)
    }
}

/// What a node's file says at first: what was said when it joined, and every default as a comment.
pub(crate) fn node_template(name: &str, args: &NodeArgs) -> String {
    let default = NodeFile::default();
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
        format!("[{}]", names.join(", "))
    };
    let set = |key: &str, value: Option<String>, default: String| match value {
        Some(value) => format!("{key} = {value}"),
        None => format!("# {key} = {default}"),
    };
    let location = args.location.as_deref().map(quoted);
    let capabilities = (!args.capabilities.is_empty()).then(|| list(&args.capabilities));
    let cores = args.cores.map(|cores| cores.to_string());
    let memory = args.memory.map(|mib| mib.to_string());
    format!(
        "# What this machine gives to the realm. What is commented out is the default.

# How the realm shows this machine, where it is (in your words), and what it can do.
name = {name}
{location}
{capabilities}

# Cores and memory (MiB) that guests may use together. A task that wants more is declined.
{cores}
{memory}
# Share of time that guests may run on those cores, percent, and their niceness (0 to 19).
# throttle = {throttle}
# nice = {nice}
# Offer fewer cores while other programs use them.
# follow_load = {follow_load}

# If not empty, only code of these authors (key ids) runs. Code of denied authors never runs.
# allow_authors = []
# deny_authors = []

# Disk for components and inputs, GiB.
# cache_gib_max = {cache_gib_max}

# How long a shutdown waits for running tasks before it gives them back.
# drain_seconds = {drain_seconds}

# Addresses of the coordinator besides those of the invitation, and whether to look for it by
# multicast DNS on the local network.
# addresses = []
# discover = {discover}
",
        name = quoted(name),
        location = set("location", location, quoted(&default.location)),
        capabilities = set("capabilities", capabilities, list(&default.capabilities)),
        cores = set("cores", cores, default.cores.to_string()),
        memory = set("memory_mib", memory, default.memory_mib.to_string()),
        throttle = default.throttle,
        nice = default.nice,
        follow_load = default.follow_load,
        cache_gib_max = default.cache_gib_max,
        drain_seconds = default.drain_seconds,
        discover = default.discover,
    )
}

/// Cores of the machine.
fn machine_cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Cores for guests when the owner says nothing: all but one, at least one.
pub(crate) fn default_cores() -> u16 {
    machine_cores().saturating_sub(1).max(1)
}

/// Memory for guests when the owner says nothing: a quarter of the machine's, at least 256 MiB.
pub(crate) fn default_memory_mib() -> u64 {
    (machine_memory_mib() / 4).max(256)
}

/// Memory of the machine, in MiB; 1 GiB where the system does not tell.
pub(crate) fn machine_memory_mib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.map_or(1024, |kib| kib / 1024)
}

/// Reads `hearth.toml` in `dir`; a missing one means all defaults.
pub(crate) fn read<T: DeserializeOwned + Default>(dir: &Path) -> Result<T, Failure> {
    let path = dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => {
            return Err(Failure::failed(format!(
                "reading {}: {error}",
                path.display()
            )));
        }
    };
    toml::from_str(&text)
        .context(Kind::Rejected, path.display())
        .map_err(|failure| failure.next("mend the file; each key is explained in it"))
}

/// Writes `hearth.toml` in `dir` unless there is one.
pub(crate) fn write_new(dir: &Path, text: &str) -> Result<(), Failure> {
    let path = dir.join(FILE);
    if path.exists() {
        Ok(())
    } else {
        places::write(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template with its commented settings switched on: each is a line `# key = value` or a table.
    fn uncommented(text: &str) -> String {
        let is_setting = |line: &str| {
            let key = line.split(" = ").next().unwrap();
            let named = |key: &str| {
                key.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            line.contains(" = ") && named(key) || line.starts_with('[')
        };
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    /// Reads a template's comments and compares every one of them with what holds without them.
    fn check<T>(template: &str)
    where
        T: Default + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let all = uncommented(template);
        let shown: toml::Table = toml::from_str(&all).unwrap();
        let known = toml::Table::try_from(T::default()).unwrap();
        let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&shown), keys(&known), "every setting is in the file");
        assert_eq!(toml::from_str::<T>(&all).unwrap(), T::default());
        assert_eq!(toml::from_str::<T>(template).unwrap(), T::default());
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn node_args(words: &[&str]) -> NodeArgs {
        let words = ["node"].iter().chain(words);
        <Line as clap::Parser>::parse_from(words).node
    }

    #[test]
    fn files_show_every_setting_with_its_true_default() {
        check::<CoordinatorFile>(&coordinator_template(([0, 0, 0, 0], 7420).into()));
        check::<NodeFile>(&node_template(&places::host_name(), &node_args(&[])));
    }

    #[test]
    fn what_was_said_at_joining_is_kept() {
        let said = node_args(&[
            "--cores",
            "3",
            "--memory",
            "700",
            "--location",
            "attic",
            "--capability",
            "gpu",
            "--capability",
            "a \"b\"",
        ]);
        let file: NodeFile = toml::from_str(&node_template("my \"machine\"", &said)).unwrap();
        let expected = NodeFile {
            name: "my \"machine\"".to_owned(),
            location: "attic".to_owned(),
            capabilities: vec!["gpu".to_owned(), "a \"b\"".to_owned()],
            cores: 3,
            memory_mib: 700,
            ..NodeFile::default()
        };
        assert_eq!(file, expected);
    }

    /// Every number of a file, at zero and at the largest that TOML has, but for those that may be so.
    fn refused<T>(check: impl Fn(&T) -> Result<(), Failure>, may_be_zero: &[&str])
    where
        T: Default + Serialize + DeserializeOwned,
    {
        assert!(check(&T::default()).is_ok());
        let all = toml::Table::try_from(T::default()).unwrap();
        let mut numbers = 0;
        for (key, _) in all.iter().filter(|(_, value)| value.is_integer()) {
            numbers += 1;
            for value in [0, i64::MAX] {
                let mut changed = all.clone();
                changed.insert(key.clone(), value.into());
                // A number that its type cannot hold is refused while reading.
                let Ok(file) = changed.try_into::<T>() else {
                    continue;
                };
                match check(&file) {
                    Ok(()) => assert!(value == 0 && may_be_zero.contains(&key.as_str()), "{key}"),
                    Err(failure) => {
                        let text = failure.to_string();
                        assert!(
                            text.contains(&format!("{key} in hearth.toml is {value}")),
                            "{text}"
                        );
                    }
                }
            }
        }
        assert!(numbers >= 6);
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_their_key() {
        let may_be_zero = ["disk_reserve_mib", "ballast_mib", "shutdown_seconds"];
        refused(CoordinatorFile::check, &may_be_zero);
        refused(NodeFile::check, &["nice", "drain_seconds"]);
        let file = NodeFile {
            drain_seconds: 86_401,
            ..NodeFile::default()
        };
        assert!(file.check().is_err());
    }

    #[test]
    fn misspelt_keys_are_refused() {
        assert!(toml::from_str::<NodeFile>("core = 3").is_err());
    }
}

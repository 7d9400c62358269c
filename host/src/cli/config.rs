//! `hearth.toml`: what an owner may set, with every default written out and commented.
//!
//! Read once at the start; command-line options win. Unknown keys are refused, because a misspelt
//! limit is no limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use hearth_wire::{KeyId, ReleaseId, TaskType};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::exit::{Context, Failure, Kind};
use super::places;

/// Name of the file, in a realm's directory and in a node's.
pub(crate) const FILE: &str = "hearth.toml";

/// What the owner of a coordinator may set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CoordinatorFile {
    pub(crate) listen: Option<Vec<SocketAddr>>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) api_hosts: Vec<String>,
    pub(crate) local_host: Option<bool>,
    pub(crate) local_cores: Option<u16>,
    pub(crate) local_memory_mib: Option<u64>,
    pub(crate) announce: Option<bool>,
    pub(crate) open_tasks_per_author: Option<u64>,
    pub(crate) submissions_per_second: Option<u32>,
    pub(crate) blob_gib_max: Option<u64>,
    pub(crate) shutdown_seconds: Option<u64>,
    pub(crate) default_releases: BTreeMap<TaskType, ReleaseId>,
}

/// What a coordinator's file says at first.
pub(crate) fn coordinator_template(listen: SocketAddr) -> String {
    format!(
        "# Configuration of this realm's coordinator. What is commented out is the default.

# Addresses for nodes and clients (TLS, client certificates).
listen = [\"{listen}\"]

# The API without TLS for tools on this machine: a loopback address. Wants a bearer token from
# tokens.toml and a Host header of this address or of api_hosts.
# api = \"127.0.0.1:7421\"
# api_hosts = []

# Whether the coordinator starts a local host: it runs what no volunteer can take in time.
# local_host = true
# Its cores [all] and the memory of its guests, MiB [half of the machine's].
# local_cores = 2
# local_memory_mib = 4096

# Whether nodes on the local network may find this coordinator by multicast DNS.
# announce = false

# Tasks of one author that may be open, and submissions of one author a second.
# open_tasks_per_author = 8000000
# submissions_per_second = 2000

# Disk for components, inputs and outputs, GiB.
# blob_gib_max = 64

# How long a shutdown waits for what is under way.
# shutdown_seconds = 5

# Which release runs a bare processing task of a type (POST /v1/tasks).
# [default_releases]
# verification = \"64 hexadecimal digits\"
"
    )
}

/// What the owner of a volunteering machine may set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeFile {
    pub(crate) name: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) cores: Option<u16>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) throttle: Option<u8>,
    pub(crate) nice: Option<i32>,
    pub(crate) follow_load: Option<bool>,
    pub(crate) allow_authors: Vec<KeyId>,
    pub(crate) deny_authors: Vec<KeyId>,
    pub(crate) cache_gib_max: Option<u64>,
    pub(crate) drain_seconds: Option<u64>,
    pub(crate) addresses: Vec<String>,
    pub(crate) discover: Option<bool>,
}

/// What a node's file says at first; `None` leaves a default.
pub(crate) fn node_template(
    name: &str,
    cores: Option<u16>,
    memory_mib: Option<u64>,
    location: Option<&str>,
) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let set = |key: &str, value: Option<String>, default: &str| match value {
        Some(value) => format!("{key} = {value}"),
        None => format!("# {key} = {default}"),
    };
    let cores = set(
        "cores",
        cores.map(|cores| cores.to_string()),
        &default_cores().to_string(),
    );
    let memory = set(
        "memory_mib",
        memory_mib.map(|mib| mib.to_string()),
        &default_memory_mib().to_string(),
    );
    let location = set("location", location.map(quoted), "\"\"");
    format!(
        "# What this machine gives to the realm. What is commented out is the default.

# How the realm shows this machine, where it is (in your words), and what it can do.
name = {name}
{location}
# capabilities = []

# Cores and memory (MiB) that guests may use together. A task that wants more is declined.
{cores}
{memory}
# Share of time that guests may run on those cores, percent, and their niceness (0 to 19).
# throttle = 100
# nice = 10
# Offer fewer cores while other programs use them.
# follow_load = false

# If not empty, only code of these authors (key ids) runs. Code of denied authors never runs.
# allow_authors = []
# deny_authors = []

# Disk for components and inputs, GiB.
# cache_gib_max = 4

# How long a shutdown waits for running tasks before it gives them back.
# drain_seconds = 20

# Addresses of the coordinator besides those of the invitation, and whether to look for it by
# multicast DNS on the local network.
# addresses = []
# discover = false
",
        name = quoted(name),
    )
}

/// Cores for guests when the owner says nothing: all but one, at least one.
pub(crate) fn default_cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores.saturating_sub(1).max(1)).unwrap_or(u16::MAX)
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

    /// A template with its commented settings switched on.
    fn uncommented(text: &str) -> String {
        let is_setting = |line: &&str| {
            line.starts_with("# ")
                && (line.contains(" = ") && !line.contains(',') || line == &"# api_hosts = []")
        };
        text.lines()
            .map(|line| if is_setting(&line) { &line[2..] } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn templates_are_read_back_and_their_defaults_are_valid() {
        let template = coordinator_template(([127, 0, 0, 1], 7420).into());
        let file: CoordinatorFile = toml::from_str(&template).unwrap();
        assert_eq!(file.listen.unwrap().len(), 1);
        let file: CoordinatorFile = toml::from_str(&uncommented(&template)).unwrap();
        assert_eq!(file.blob_gib_max, Some(64));
        let template = node_template("my \"machine\"", Some(3), None, Some("attic"));
        let file: NodeFile = toml::from_str(&template).unwrap();
        assert_eq!(
            (file.name.as_deref(), file.cores),
            (Some("my \"machine\""), Some(3))
        );
        let file: NodeFile = toml::from_str(&uncommented(&template)).unwrap();
        assert_eq!(file.throttle, Some(100));
    }

    #[test]
    fn misspelt_keys_are_refused() {
        assert!(toml::from_str::<NodeFile>("core = 3").is_err());
    }
}

//! Making, opening and joining realms.

use std::fs::{File, TryLockError};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hearth_identity::{DirError, InitOptions, NodeDir, RealmDir, verify_invitation};
use hearth_node::{JoinError, Joined};
use hearth_wire::{Role, UnixSeconds};
use serde_json::json;

use super::args::{Global, InitArgs, InviteArgs, JoinArgs, PassphraseArgs, RoleArg, TokenArgs};
use super::exit::{Context, Failure, Kind};
use super::jobs::client;
use super::{Output, places};

/// The wall clock, as certificates and tokens count it.
pub(crate) fn now() -> UnixSeconds {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs()))
}

pub(crate) fn init(global: &Global, args: &InitArgs, output: Output) -> Result<(), Failure> {
    let dir = places::realm(global)?;
    if RealmDir::exists(&dir) {
        return Err(
            Failure::rejected(format!("{} holds a realm already", dir.display()))
                .next("start it with `hearth coordinator`, or make another one with --realm DIR"),
        );
    }
    let addresses = addresses(args);
    let (dns_names, ips) = names(&addresses);
    let options = InitOptions {
        name: args.name.clone(),
        passphrase: passphrase(&args.passphrase, true)?,
        addresses: addresses.clone(),
        dns_names,
        ips,
        first_author: args.author.clone(),
        engine_min: hearth_sandbox::engine_id().version,
    };
    let summary = RealmDir::init(&dir, options, now()).map_err(|error| unmade(&dir, &error))?;
    crate::cli::coordinator::write_config(&dir, args.listen)?;
    output.say(format!(
        "realm     {} ({})",
        args.name,
        summary.realm.short()
    ))?;
    output.say(format!("folder    {}", dir.display()))?;
    output.say(format!("addresses {}", addresses.join(", ")))?;
    output.say(format!("root key  {}", summary.root_key.display()))?;
    output.say("          move it to a safe place that is off this machine: the coordinator does not need it")?;
    output.say(format!(
        "author    {} ({})",
        args.author,
        summary.author.short()
    ))?;
    output.say(
        "\nnext: `hearth coordinator` starts it; `hearth invite node` lets a machine volunteer",
    )?;
    output.document(&json!({
        "realm": summary.realm, "name": args.name, "folder": dir, "addresses": addresses,
        "root_key": summary.root_key, "author": summary.author,
    }))
}

/// Why there is no new realm, as a command's end.
fn unmade(dir: &Path, error: &DirError) -> Failure {
    let making = format!("making a realm in {}: {error}", dir.display());
    let next = match error {
        DirError::Io { path, error, .. } => {
            return places::unwritable("making a realm:", path, error);
        }
        DirError::Option { field: "name", .. } => "say another --name",
        DirError::Option {
            field: "first author",
            ..
        } => "say another --author",
        DirError::Option {
            field: "addresses", ..
        } => "say --address HOST:PORT, once for each way to reach the coordinator",
        DirError::Option { .. } => "change that option",
        DirError::Exists(_) | DirError::NotEmpty(_) => {
            "name an empty folder with --realm DIR, or one that is not there yet"
        }
        _ => return Failure::failed(making),
    };
    Failure::rejected(making).next(next)
}

/// Where others reach the coordinator: as told, or under the names that this machine knows of itself.
fn addresses(args: &InitArgs) -> Vec<String> {
    if !args.addresses.is_empty() {
        return args.addresses.clone();
    }
    let port = args.listen.port();
    let own = |ip: IpAddr| SocketAddr::new(ip, port).to_string();
    if !args.listen.ip().is_unspecified() {
        return vec![own(args.listen.ip())];
    }
    let mut addresses = vec![own(IpAddr::from([127, 0, 0, 1]))];
    addresses.extend(interfaces(args.listen.ip().is_ipv6()).into_iter().map(own));
    addresses.push(format!("{}:{port}", places::host_name()));
    addresses
}

/// Addresses of this machine that others may reach: each costs whoever cannot reach it a timeout, so a
/// few are enough.
fn interfaces(v6: bool) -> Vec<IpAddr> {
    const MAX: usize = 4;
    let local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let mut found: Vec<_> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .map(|interface| interface.ip())
        .filter(|ip| !local(ip) && (v6 || ip.is_ipv4()))
        .collect();
    found.sort();
    found.dedup();
    found.truncate(MAX);
    found
}

/// Splits the hosts of addresses into names and IP addresses, for the certificate.
fn names(addresses: &[String]) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut ips) = (Vec::new(), Vec::new());
    for address in addresses {
        let host = address
            .rsplit_once(':')
            .map_or(address.as_str(), |(host, _)| host);
        match host.trim_matches(['[', ']']).parse() {
            Ok(ip) => ips.push(ip),
            Err(_) => names.push(host.to_owned()),
        }
    }
    (names, ips)
}

/// The root key's passphrase: from a file, from the terminal, or none because the user said so.
pub(crate) fn passphrase(args: &PassphraseArgs, new: bool) -> Result<Option<String>, Failure> {
    if args.no_passphrase {
        return Ok(None);
    }
    if let Some(path) = &args.passphrase_file {
        let text = std::fs::read_to_string(path)
            .context(Kind::Rejected, format!("reading {}", path.display()))?;
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        return if text.is_empty() {
            Err(
                Failure::rejected(format!("{} holds no passphrase", path.display()))
                    .next("write one, or say --no-passphrase"),
            )
        } else {
            Ok(Some(text))
        };
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::rejected(
            "the root key needs a passphrase and there is no terminal to ask on",
        )
        .next("give it with --passphrase-file FILE, or say --no-passphrase"));
    }
    let first = ask_hidden("passphrase of the root key (empty for none): ")?;
    if new && !first.is_empty() && ask_hidden("again: ")? != first {
        return Err(Failure::rejected("the passphrases differ").next("try again"));
    }
    Ok((!first.is_empty()).then_some(first))
}

/// Asks on the terminal without showing what is typed.
fn ask_hidden(prompt: &str) -> Result<String, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).context(Kind::Failed, "reading the terminal's mode")?;
    let mut hidden = shown.clone();
    hidden.local_modes -= LocalModes::ECHO;
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)
        .context(Kind::Failed, "hiding what is typed")?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let _ = tcsetattr(&stdin, OptionalActions::Flush, &shown);
    let _ = writeln!(stderr);
    read.context(Kind::Failed, "reading the passphrase")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) fn role(arg: RoleArg) -> Role {
    match arg {
        RoleArg::Node => Role::Node,
        RoleArg::Author => Role::Author,
        RoleArg::Admin => Role::Admin,
        RoleArg::Observer => Role::Observer,
    }
}

pub(crate) async fn invite(
    global: &Global,
    args: &InviteArgs,
    output: Output,
) -> Result<(), Failure> {
    let dir = places::realm(global)?;
    let (role, seconds) = (role(args.role), args.hours * 3600);
    // The owner's directory can sign by itself, with the coordinator up or down.
    let token = if RealmDir::exists(&dir) {
        let realm = RealmDir::open(&dir).context(Kind::Failed, "opening the realm")?;
        realm
            .invite(role, seconds, now())
            .context(Kind::Failed, "signing the invitation")?
    } else {
        client(global)
            .await?
            .invite(role, seconds)
            .await
            .map_err(super::jobs::failure)?
    };
    match &args.out {
        Some(path) => {
            write_secret(path, &token)?;
            output.say(format!(
                "written to {}; it can be used once, within {} hours",
                path.display(),
                args.hours
            ))?;
            output.document(&json!({ "role": role, "file": path, "hours": args.hours }))
        }
        None => {
            output.say(&token)?;
            output.document(&json!({ "role": role, "token": token, "hours": args.hours }))
        }
    }
}

fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| places::unwritable("writing", path, &error))?;
    writeln!(file, "{text}").map_err(|error| places::unwritable("writing", path, &error))
}

/// The invitation's text, from a file or standard input.
pub(crate) fn token(args: &TokenArgs) -> Result<String, Failure> {
    // A token is a few hundred bytes; the limit is there for a wrong file.
    const TOKEN_BYTES_MAX: u64 = 16 << 10;
    let mut text = String::new();
    match &args.token_file {
        Some(path) => {
            let file = std::fs::File::open(path)
                .context(Kind::Rejected, format!("reading {}", path.display()))?;
            file.take(TOKEN_BYTES_MAX)
                .read_to_string(&mut text)
                .context(Kind::Rejected, format!("reading {}", path.display()))?;
        }
        None => {
            if std::io::stdin().is_terminal() {
                let _ = writeln!(std::io::stderr(), "paste the invitation and press Enter:");
                std::io::stdin()
                    .lock()
                    .read_line(&mut text)
                    .context(Kind::Rejected, "reading the invitation")?;
            } else {
                let stdin = std::io::stdin().lock();
                stdin
                    .take(TOKEN_BYTES_MAX)
                    .read_to_string(&mut text)
                    .context(Kind::Rejected, "reading the invitation")?;
            }
        }
    }
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(Failure::rejected("there is no invitation on standard input")
            .next("pipe the token that `hearth invite` printed into this command, or use --token-file FILE"));
    }
    Ok(text)
}

pub(crate) async fn join(global: &Global, args: &JoinArgs, output: Output) -> Result<(), Failure> {
    let dir = places::realm(global)?;
    if RealmDir::exists(&dir) || NodeDir::exists(&dir) {
        return Err(
            Failure::rejected(format!("{} holds a realm already", dir.display()))
                .next("join another one with --realm DIR"),
        );
    }
    let token = token(&args.token)?;
    let invitation =
        verify_invitation(&token, None, now()).context(Kind::Rejected, "the invitation")?;
    if invitation.role == Role::Node {
        return Err(Failure::rejected("this invitation is for a node")
            .next("volunteer this machine with `hearth node --join`"));
    }
    let name = args.name.clone().unwrap_or_else(places::host_name);
    let _turn = Turn::take(&dir)?;
    if NodeDir::exists(&dir) {
        return Err(
            Failure::rejected(format!("somebody joined from {} just now", dir.display()))
                .next("join another one with --realm DIR"),
        );
    }
    let joined = enrol(&token, &name, &dir).await?;
    output.say(format!(
        "joined realm {} as {} in {}",
        joined.realm.short(),
        invitation.role,
        dir.display()
    ))?;
    let mut author = None;
    if matches!(invitation.role, Role::Author | Role::Admin) {
        let joined = NodeDir::open(&dir).context(Kind::Failed, "opening what was joined")?;
        let key = joined
            .author_key()
            .context(Kind::Failed, "making an author key")?
            .public();
        output.say(format!("your author key is {key}"))?;
        output.say(format!("next: the realm's owner lets your code run with `hearth author add {key} --name {name}`"))?;
        author = Some(key);
    }
    output.document(&json!({ "realm": joined.realm, "role": invitation.role, "folder": dir, "author_key": author }))
}

/// The lock of a folder into which somebody joins: the one that the node will hold while it runs.
pub(crate) const LOCK: &str = "lock";

/// The turn to join into a folder: an invitation is spent by who has it, and nobody else at the time.
/// When it is over the lock is gone, and the folder too if it was made for the turn and is empty.
pub(crate) struct Turn {
    dir: PathBuf,
    made: bool,
    _lock: File,
}

impl Turn {
    pub(crate) fn take(dir: &Path) -> Result<Self, Failure> {
        let made = !dir.exists();
        let mut builder = std::fs::DirBuilder::new();
        // The folder will hold keys.
        builder
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| places::unwritable("making", dir, &error))?;
        let path = dir.join(LOCK);
        loop {
            let lock =
                File::create(&path).map_err(|error| places::unwritable("making", &path, &error))?;
            Self::lock(&lock, dir, &path)?;
            // Whose turn just ended may have removed the file between these two.
            if is_at(&lock, &path) {
                return Ok(Self {
                    dir: dir.to_owned(),
                    made,
                    _lock: lock,
                });
            }
        }
    }

    fn lock(lock: &File, dir: &Path, path: &Path) -> Result<(), Failure> {
        match lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(Failure::rejected(format!(
                "{} is in use: somebody joins from there, or its node runs",
                dir.display()
            ))
            .next("wait for that, or use another folder; the invitation is not spent")),
            Err(TryLockError::Error(error)) => Err(places::unwritable("locking", path, &error)),
        }
    }
}

/// Whether the open file is the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |found: std::fs::Metadata| (found.dev(), found.ino());
    let named = std::fs::metadata(path).map(id);
    matches!((file.metadata().map(id), named), (Ok(open), Ok(named)) if open == named)
}

impl Drop for Turn {
    fn drop(&mut self) {
        // While it is held, so that nobody else's is removed.
        let _ = std::fs::remove_file(self.dir.join(LOCK));
        if self.made {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

/// Joins, and says who is to blame when that fails.
pub(crate) async fn enrol(token: &str, name: &str, dir: &Path) -> Result<Joined, Failure> {
    let error = match hearth_node::join(token, name, dir).await {
        Ok(joined) => return Ok(joined),
        Err(error) => error,
    };
    // An answer may have been lost on its way. The token is bound to the key that asked, so that key
    // is kept for another try; after a plain no it is good for nothing.
    let asked = matches!(
        error,
        JoinError::Unreachable { .. } | JoinError::Http(_) | JoinError::Answer(_)
    );
    if !asked && !NodeDir::exists(dir) {
        let _ = std::fs::remove_file(dir.join("node.key"));
    }
    let (kind, next) = match &error {
        JoinError::Unreachable { .. } | JoinError::Http(_) => (
            Kind::Unreachable,
            "try again with the same invitation once the coordinator runs and can be reached",
        ),
        JoinError::Refused { .. } => (
            Kind::Forbidden,
            "ask the realm's owner for a new invitation",
        ),
        JoinError::Invitation(_) => (Kind::Rejected, "ask the realm's owner for a new invitation"),
        JoinError::Answer(_) => (Kind::Failed, "update hearth here and there, then try again"),
        _ => (Kind::Failed, "mend that, then try again"),
    };
    Err(Failure::new(kind, format!("joining: {error}")).next(next))
}

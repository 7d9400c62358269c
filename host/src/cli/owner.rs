//! What the owner of a realm decides: authors, the policy, revocations, tokens.

use std::path::Path;

use hearth::task_tools::Bundle;
use hearth_identity::{BearerTokens, DirError, PolicyState, RealmDir, SigningKey};
use hearth_wire::{AuthorEntry, Policy, ReleaseId, UnixSeconds};
use serde_json::json;

use super::args::{
    AuthorCommand, Global, PolicyCommand, RevokeArgs, RoleArg, RootKeyArgs, TokenCommand,
};
use super::exit::{Context, Failure, Kind};
use super::identity::{now, passphrase, role};
use super::output::plain;
use super::{Output, places};

/// The realm, which must be one's own.
fn own(global: &Global, whose: &str) -> Result<RealmDir, Failure> {
    let dir = places::realm(global)?;
    if !RealmDir::exists(&dir) {
        return Err(Failure::rejected(format!(
            "{whose} the business of the realm's owner, and {} is not a realm of yours",
            dir.display()
        ))
        .next("say it on the coordinator's machine, or name the realm with --realm DIR"));
    }
    RealmDir::open(&dir).map_err(failure)
}

/// A directory's error as a command's end.
fn failure(error: DirError) -> Failure {
    let next = match &error {
        DirError::NoRootKey(_) => "name it where it is now with --root-key FILE",
        DirError::Key(_) => {
            "give the root key of this realm and its passphrase (--passphrase-file)"
        }
        DirError::Policy(_) => "the root key must be this realm's: name it with --root-key FILE",
        DirError::Option { .. } => "change that and say it again",
        _ => "mend that, or restore the realm's directory from a copy",
    };
    let kind = match &error {
        DirError::Io { .. } => Kind::Failed,
        _ => Kind::Rejected,
    };
    Failure::new(kind, &error).next(next)
}

pub(crate) fn author(
    global: &Global,
    command: &AuthorCommand,
    output: Output,
) -> Result<(), Failure> {
    let realm = own(global, "authors are")?;
    match command {
        AuthorCommand::List => {}
        AuthorCommand::Add {
            key,
            name,
            days,
            root,
        } => {
            let entry = AuthorEntry {
                key: *key,
                name: name.clone(),
                not_after: UnixSeconds(now().0 + days * 86_400),
            };
            sign(&realm, root, |policy| {
                policy.authors.retain(|author| author.key != entry.key);
                policy.authors.push(entry);
            })?;
        }
        AuthorCommand::Remove { key, root } => {
            known(&realm, *key)?;
            sign(&realm, root, |policy| {
                policy.authors.retain(|author| author.key.id() != *key)
            })?;
        }
        AuthorCommand::Revoke { key } => {
            known(&realm, *key)?;
            let revoke = realm.revoke(now(), |list| {
                if !list.authors.contains(key) {
                    list.authors.push(*key);
                }
            });
            revoke.map_err(failure)?;
        }
    }
    let state = realm.policy_state().map_err(failure)?;
    let authors = &state.policy().authors;
    let revoked = |author: &AuthorEntry| {
        let id = author.key.id();
        state.revocations().authors.contains(&id) || state.policy().revoked_authors.contains(&id)
    };
    let rows = authors
        .iter()
        .map(|author| {
            let status = if revoked(author) {
                "revoked".to_owned()
            } else {
                left(author.not_after)
            };
            vec![author.name.clone(), author.key.id().to_string(), status]
        })
        .collect();
    let json: Vec<_> = authors
        .iter()
        .map(|author| {
            json!({
                "name": author.name, "key_id": author.key.id(), "key": author.key,
                "not_after": author.not_after, "revoked": revoked(author),
            })
        })
        .collect();
    output.table(&["AUTHOR", "KEY ID", "TRUSTED FOR"], rows, &json)
}

/// A misspelt key id must not look like a success.
fn known(realm: &RealmDir, key: hearth_wire::KeyId) -> Result<(), Failure> {
    let state = realm.policy_state().map_err(failure)?;
    if state
        .policy()
        .authors
        .iter()
        .any(|author| author.key.id() == key)
    {
        return Ok(());
    }
    Err(
        Failure::rejected(format!("no author of the realm has the key id {key}"))
            .next("`hearth author list` shows them"),
    )
}

/// How long something still holds, for people.
fn left(until: UnixSeconds) -> String {
    match until.0.checked_sub(now().0) {
        None => "ended".to_owned(),
        Some(seconds) => format!("{} days", seconds / 86_400),
    }
}

/// Changes the policy and signs it with the root key, wherever that is.
fn sign(
    realm: &RealmDir,
    args: &RootKeyArgs,
    edit: impl FnOnce(&mut Policy),
) -> Result<PolicyState, Failure> {
    match &args.root_key {
        Some(path) => {
            let root = root_key(path, args)?;
            realm.update_policy_with(&root, now(), edit)
        }
        None => {
            let secret = if realm.root_key_is_protected().map_err(failure)? {
                passphrase(&args.passphrase, false)?
            } else {
                None
            };
            realm.update_policy(secret.as_deref(), now(), edit)
        }
    }
    .map_err(failure)
}

/// A root key from elsewhere. Whether it is protected shows when it is opened without a passphrase.
fn root_key(path: &Path, args: &RootKeyArgs) -> Result<SigningKey, Failure> {
    match SigningKey::load(path) {
        Err(DirError::Key(_)) => {
            let secret = passphrase(&args.passphrase, false)?;
            SigningKey::load_sealed(path, secret.as_deref()).map_err(failure)
        }
        Err(DirError::Missing(path)) => Err(Failure::rejected(format!(
            "there is no root key at {}",
            path.display()
        ))
        .next("name the file with --root-key FILE")),
        loaded => loaded.map_err(failure),
    }
}

pub(crate) fn policy(
    global: &Global,
    command: &PolicyCommand,
    output: Output,
) -> Result<(), Failure> {
    let realm = own(global, "the policy is")?;
    match command {
        PolicyCommand::Show => {}
        PolicyCommand::Renew { root } => {
            sign(&realm, root, |_| ())?;
        }
        PolicyCommand::Trust { node, root } => {
            sign(&realm, root, |policy| {
                if !policy.trusted_nodes.contains(node) {
                    policy.trusted_nodes.push(*node);
                }
            })?;
        }
        PolicyCommand::Distrust { node, root } => {
            sign(&realm, root, |policy| {
                policy.trusted_nodes.retain(|trusted| trusted != node)
            })?;
        }
    }
    let state = realm.policy_state().map_err(failure)?;
    let (policy, list) = (state.policy(), state.revocations());
    let names = |names: Vec<String>| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            plain(&names.join(", ")).into_owned()
        }
    };
    output.say(format!(
        "realm          {} ({})",
        plain(&policy.name),
        policy.realm.short()
    ))?;
    output.say(format!(
        "policy         version {}, in force for {}",
        policy.version,
        left(policy.expires)
    ))?;
    output.say(format!(
        "revocations    version {}, in force for {} (the coordinator renews them)",
        list.version,
        left(list.expires)
    ))?;
    let authors = policy.authors.iter().map(|author| author.name.clone());
    output.say(format!("authors        {}", names(authors.collect())))?;
    let trusted = policy.trusted_nodes.iter().map(ToString::to_string);
    output.say(format!("trusted nodes  {}", names(trusted.collect())))?;
    let [major, minor, patch] = policy.engine_min;
    output.say(format!("oldest engine  wasmtime {major}.{minor}.{patch}"))?;
    output.say(format!(
        "taken back     {} authors, {} releases, {} members",
        list.authors.len() + policy.revoked_authors.len(),
        list.releases.len(),
        list.nodes.len()
    ))?;
    if let Err(error) = state.check_in_force(now()) {
        output.note(format!(
            "{error}; `hearth policy renew` signs a new policy, the coordinator new revocations"
        ));
    }
    output.document(&json!({
        "realm": policy.realm, "name": policy.name, "version": policy.version,
        "issued": policy.issued, "expires": policy.expires, "in_force": state.check_in_force(now()).is_ok(),
        "authors": policy.authors, "trusted_nodes": policy.trusted_nodes, "engine_min": policy.engine_min,
        "revoked_authors": policy.revoked_authors, "revocations": &**list,
    }))
}

/// Takes a release back with the online key, which is on the coordinator's machine.
pub(crate) fn revoke(global: &Global, args: &RevokeArgs, output: Output) -> Result<(), Failure> {
    let realm = own(global, "revoking a release is")?;
    let release: ReleaseId = match args.release.parse() {
        Ok(release) => release,
        Err(_) if Path::new(&args.release).exists() => Bundle::read(Path::new(&args.release))
            .context(Kind::Rejected, "the release")?
            .release
            .id(),
        Err(error) => {
            return Err(Failure::rejected(format!(
                "{:?} is neither a release's id ({error}) nor a file",
                args.release
            ))
            .next("`hearth --json task sign` tells the id of what it signs"));
        }
    };
    realm
        .revoke(now(), |list| {
            if !list.releases.contains(&release) {
                list.releases.push(release);
            }
        })
        .map_err(failure)?;
    output.say(format!(
        "release {} is taken back: coordinator and nodes hear of it within seconds",
        release.short()
    ))?;
    output.document(&json!({ "revoked": release }))
}

pub(crate) fn token(
    global: &Global,
    command: &TokenCommand,
    output: Output,
) -> Result<(), Failure> {
    let realm = own(global, "tokens are")?;
    let mut tokens = BearerTokens::open(&realm.tokens_file()).map_err(failure)?;
    match command {
        TokenCommand::Add { name, role: given } => {
            if *given == RoleArg::Node {
                return Err(
                    Failure::rejected("nodes connect with a certificate, not a token")
                        .next("say --role author, observer or admin"),
                );
            }
            let role = role(*given);
            let text = tokens.create(name, role, now()).map_err(failure)?;
            output.say(text.as_str())?;
            output.note(
                "it is shown only now; send it as `Authorization: Bearer TOKEN` to the address of \
                 `hearth coordinator --api ADDRESS`",
            );
            output.document(&json!({ "name": name, "role": role, "token": text.as_str() }))
        }
        TokenCommand::List => {
            let days =
                |since: UnixSeconds| format!("{} days", now().0.saturating_sub(since.0) / 86_400);
            let rows = tokens
                .list()
                .iter()
                .map(|token| {
                    vec![
                        token.name.clone(),
                        token.role.to_string(),
                        days(token.created),
                    ]
                })
                .collect();
            let json: Vec<_> = tokens
                .list()
                .iter()
                .map(|token| {
                    json!({ "name": token.name, "role": token.role, "created": token.created })
                })
                .collect();
            output.table(&["TOKEN", "ROLE", "AGE"], rows, &json)
        }
        TokenCommand::Remove { name } => {
            if !tokens.remove(name).map_err(failure)? {
                return Err(Failure::rejected(format!("there is no token {name:?}"))
                    .next("`hearth token list` shows them"));
            }
            output.say(format!("token {name} opens nothing any more"))?;
            output.document(&json!({ "removed": name }))
        }
    }
}

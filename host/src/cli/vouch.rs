//! Whose code may run at home: the same question that every node asks, asked on this machine.

use hearth_identity::{
    NodeDir, RealmDir, ReleaseError, Trust, TrustedRelease, UserDir, Verified, verify_release,
};
use hearth_wire::{AuthorEntry, UnixSeconds};

use super::args::Global;
use super::exit::{Context, Failure, Kind};
use super::identity::now;
use super::task::{self, Loaded};
use super::{Output, places};

/// Verifies what `hearth run` was given before it runs here. What is not signed yet is one's own: it is
/// signed with the personal key, and then verified like anything else.
pub(crate) fn vouched(
    global: &Global,
    loaded: &Loaded,
    output: Output,
) -> Result<Verified<TrustedRelease>, Failure> {
    let own = UserDir::open(&places::user_data()?)
        .and_then(|user| user.author_key())
        .context(Kind::Failed, "your personal author key")?;
    let trust = trust(global, output)?.with_personal(own.public());
    let release = match &loaded.release {
        Some(release) => release.clone(),
        None => task::sign_with(loaded, &own)?,
    };
    let trusted = verify_release(&release, &trust, now()).map_err(refused)?;
    let engine = hearth_sandbox::engine_id();
    if !trusted.manifest.engines.contains(&engine) {
        return Err(Failure::rejected(format!(
            "the release is for other engines than this program's {engine}"
        ))
        .next("update hearth, or ask the author to sign the release anew"));
    }
    Ok(trusted)
}

/// Whom this machine trusts: the authors of its realm, if it has one.
///
/// They are pinned as this machine saw them last. Whoever runs something on their own machine may go on
/// when nobody has signed a new policy in time; only volunteers stop then.
fn trust(global: &Global, output: Output) -> Result<Trust, Failure> {
    let dir = places::realm(global)?;
    let trust = if RealmDir::exists(&dir) {
        let realm = RealmDir::open(&dir).context(Kind::Failed, "opening the realm")?;
        realm.trust().context(Kind::Failed, "reading the policy")?
    } else if NodeDir::exists(&dir) {
        let joined = NodeDir::open(&dir).context(Kind::Failed, "opening the realm")?;
        let state = joined.policy_state();
        let own = joined
            .author_key()
            .context(Kind::Failed, "your author key")?;
        let own = AuthorEntry {
            key: own.public(),
            name: "you".to_owned(),
            not_after: UnixSeconds(u64::MAX),
        };
        let authors = state.policy().authors.clone();
        state.trust().with_pinned(authors).with_pinned([own])
    } else if global.realm.is_some() {
        return Err(super::jobs::failure(hearth::client::ClientError::NoRealm(
            dir,
        )));
    } else {
        return Ok(Trust::default());
    };
    if let Some(Err(error)) = trust
        .policy_state()
        .map(|state| state.check_in_force(now()))
    {
        output.note(format!("{error}; going on with the authors known here"));
    }
    Ok(trust)
}

/// One exit code for all of them, and the same as a coordinator's refusal has: whether the network is
/// there must not decide what a script sees.
fn refused(error: ReleaseError) -> Failure {
    let text = error.to_string();
    let (message, next) = text.rsplit_once(": ").unwrap_or((&text, ""));
    let next = match error {
        ReleaseError::UnknownAuthor { .. } => {
            "if you trust its author, the realm's owner lets them in with `hearth author add`; \
             `hearth task run` tries a release without asking whose it is"
        }
        ReleaseError::Unsigned => "sign it with `hearth task sign`, or get it from its author",
        ReleaseError::AuthorExpired { .. } => {
            "the realm's owner renews the author with `hearth author add`"
        }
        _ => next,
    };
    let failure = Failure::rejected(message);
    if next.is_empty() {
        failure
    } else {
        failure.next(next)
    }
}

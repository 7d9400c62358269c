//! Author's tools on the command line; what they do is in [`hearth::task_tools`].

use std::path::Path;

use hearth::task_tools::{self, SignOptions, ToolError};
use hearth::{Component, LocalHost};
use hearth_identity::{NodeDir, RealmDir, SigningKey, UserDir};
use hearth_wire::{RealmId, Release, UnixSeconds};
use serde_json::json;

use super::args::{EngineArg, Global, TaskCommand, TaskRunArgs, TaskSignArgs};
use super::exit::{Context, Failure, Kind};
use super::identity::now;
use super::output::plain;
use super::{Output, inputs, places, run};

pub(crate) use hearth::task_tools::Loaded;

/// Days that a release is valid when it is signed on the way to a coordinator.
const DAYS_DEFAULT: u64 = 365;
const DAY: u64 = 86_400;
/// How late the clock of a machine may be that must accept a release at once.
const LATE_CLOCK_SECONDS: u64 = 3600;

pub(crate) fn task(global: &Global, command: &TaskCommand, output: Output) -> Result<(), Failure> {
    match command {
        TaskCommand::New { name } => {
            let made = task_tools::new(name).context(Kind::Rejected, "making a task")?;
            output.say(format!("made {}", made.folder.display()))?;
            output.say(format!(
                "next: cd {} && hearth task build && hearth run . sample-input.json",
                made.folder.display()
            ))?;
            output.document(&json!({ "folder": made.folder, "files": made.files }))
        }
        TaskCommand::Build { folder, out } => {
            let mut say = |text: &str| output.note(text);
            places::out_folder(out.as_deref())?;
            let built = task_tools::build(folder, out.as_deref(), &mut say)
                .context(Kind::Rejected, "building")?;
            output.say(format!(
                "{} ({} bytes, {})",
                built.component.display(),
                built.bytes,
                built.digest.short()
            ))?;
            output.document(&json!({
                "name": built.name, "component": built.component, "manifest": built.manifest,
                "bytes": built.bytes, "digest": built.digest, "imports": built.imports,
            }))
        }
        TaskCommand::Check { file } => check(file, output),
        TaskCommand::Run(args) => run_once(args, output),
        TaskCommand::Sign(args) => sign(global, args, output),
    }
}

fn check(file: &Path, output: Output) -> Result<(), Failure> {
    let report = task_tools::check(file).context(Kind::Rejected, file.display())?;
    output.say(format!("world    {}", report.world))?;
    output.say(format!(
        "bytes    {} (sha256 {})",
        report.bytes, report.digest
    ))?;
    for import in &report.imports {
        output.say(format!("imports  {import}"))?;
    }
    output.document(&report)?;
    match report.unfit {
        None => {
            output.say("nodes take it")?;
            Ok(())
        }
        Some(why) => Err(Failure::rejected(format!("nodes refuse it: {why}"))),
    }
}

fn run_once(args: &TaskRunArgs, output: Output) -> Result<(), Failure> {
    places::out_folder(args.out.as_deref())?;
    let inputs = inputs::read(&args.inputs)?;
    let loaded = load(&args.file)?;
    let component = Component::from_bytes(loaded.component.clone())
        .context(Kind::Rejected, args.file.display())?;
    let builder = LocalHost::builder().runner_program(places::same_program());
    let builder = match args.engine {
        EngineArg::Native => builder,
        EngineArg::Pulley => builder.pulley(),
    };
    let host = builder
        .start()
        .context(Kind::Failed, "starting the sandbox")?;
    let job = host
        .job(&component)
        .media_type(&inputs.media_type)
        .limits(loaded.draft.limits)
        .seed(args.seed.unwrap_or_default());
    let job = job.inputs(inputs.items.iter().map(|(_, input)| input));
    let job = job.on_log(move |line| {
        let level = format!("{:?}", line.level).to_lowercase();
        output.note(format!("{level}: {}", plain(&line.text)));
    });
    let mut without = 0;
    let bar = output.bar(inputs.items.len() as u64, "running");
    for result in job.run().context(Kind::Rejected, "the job")? {
        without += usize::from(result.output().is_none());
        run::show(
            &result,
            result.index,
            &inputs.items[result.index].0,
            args.out.as_deref(),
            output,
        )?;
        let digest = result
            .digest()
            .map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        output.note(format!(
            "  fuel {}, {:.3} s, digest {digest}",
            result.fuel_used,
            result.run_time.as_secs_f64()
        ));
        bar.inc(1);
    }
    bar.finish_and_clear();
    run::complete(without, inputs.items.len())
}

fn sign(global: &Global, args: &TaskSignArgs, output: Output) -> Result<(), Failure> {
    let loaded = load(&args.file)?;
    let key = match &args.key {
        Some(path) => SigningKey::load(path).context(Kind::Rejected, path.display())?,
        None => author_key(global)?.0,
    };
    let realm = if args.bind_realm {
        Some(author_key(global)?.1.ok_or_else(no_realm)?)
    } else {
        None
    };
    let bundle = task_tools::sign(&loaded, &key, &validity(args.days, realm))
        .context(Kind::Rejected, "signing")?;
    let path = match &args.out {
        Some(path) => path.clone(),
        None => loaded.release_path(),
    };
    bundle.write(&path).map_err(|error| match error {
        ToolError::Io {
            action,
            path,
            source,
        } => places::unwritable(action, &path, &source),
        error => Failure::failed(error),
    })?;
    output.say(format!(
        "{}: release {} signed by {}",
        path.display(),
        bundle.release.id().short(),
        key.id().short()
    ))?;
    output.document(&json!({ "file": path, "release": bundle.release.id(), "author": key.id() }))
}

fn no_realm() -> Failure {
    Failure::rejected("there is no realm to bind the release to").next("name one with --realm DIR")
}

fn validity(days: u64, realm: Option<RealmId>) -> SignOptions {
    SignOptions {
        not_before: UnixSeconds(now().0.saturating_sub(LATE_CLOCK_SECONDS)),
        not_after: UnixSeconds(now().0 + days * DAY),
        realm,
    }
}

/// The key that signs by default: the realm's author, whoever joined as one, or this user's own.
fn author_key(global: &Global) -> Result<(SigningKey, Option<RealmId>), Failure> {
    let dir = places::realm(global)?;
    if RealmDir::exists(&dir) {
        let realm = RealmDir::open(&dir).context(Kind::Failed, "opening the realm")?;
        return Ok((
            realm
                .author_key()
                .context(Kind::Failed, "reading the author key")?,
            Some(realm.realm()),
        ));
    }
    if NodeDir::exists(&dir) {
        let joined = NodeDir::open(&dir).context(Kind::Failed, "opening the realm")?;
        return Ok((
            joined
                .author_key()
                .context(Kind::Failed, "reading the author key")?,
            Some(joined.realm()),
        ));
    }
    let user = UserDir::open(&places::user_data()?)
        .context(Kind::Failed, "opening your data directory")?;
    Ok((
        user.author_key()
            .context(Kind::Failed, "making your personal author key")?,
        None,
    ))
}

/// Reads a release, a component or a task's folder.
pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    task_tools::load(path).context(Kind::Rejected, path.display())
}

/// The release of what the command line names: as it is signed, or signed here with one's own key.
pub(crate) fn release(global: &Global, path: &Path) -> Result<(Release, bytes::Bytes), Failure> {
    let loaded = load(path)?;
    Ok((release_of(global, &loaded)?, loaded.component.clone()))
}

pub(crate) fn release_of(global: &Global, loaded: &Loaded) -> Result<Release, Failure> {
    if let Some(release) = &loaded.release {
        return Ok(release.clone());
    }
    sign_with(loaded, &author_key(global)?.0)
}

/// A release of one's own component, for as long as releases are valid by default.
///
/// All day it is the same release, so that a submission that is repeated with its idempotency key asks
/// for the same thing.
pub(crate) fn sign_with(loaded: &Loaded, key: &SigningKey) -> Result<Release, Failure> {
    let bundle = task_tools::sign(loaded, key, &validity_of_the_day(now()))
        .context(Kind::Rejected, "signing")?;
    Ok(bundle.release)
}

fn validity_of_the_day(now: UnixSeconds) -> SignOptions {
    let day = now.0.saturating_sub(LATE_CLOCK_SECONDS) / DAY * DAY;
    SignOptions {
        not_before: UnixSeconds(day),
        not_after: UnixSeconds(day + (DAYS_DEFAULT + 2) * DAY),
        realm: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_component_is_the_same_release_all_day() {
        let noon = UnixSeconds(20_000 * DAY + DAY / 2);
        let release = validity_of_the_day(noon);
        assert_eq!(validity_of_the_day(UnixSeconds(noon.0 + 3)), release);
        // Whenever it is signed, it is valid on clocks that are late and for as long as was said.
        for hour in 0..24 {
            let now = UnixSeconds(noon.0 + hour * 3600);
            let release = validity_of_the_day(now);
            assert!(release.not_before.0 + LATE_CLOCK_SECONDS <= now.0);
            assert!(release.not_after.0 >= now.0 + DAYS_DEFAULT * DAY);
        }
    }
}

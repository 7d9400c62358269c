//! Running at home what no coordinator can be asked for, and handing it over when one can.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use hearth::client::Client;
use hearth::outbox::{Entry, Kept, Outbox, Work, deliver};
use hearth::{Component, JobControl, LocalHost, TaskResult};
use hearth_wire::{Digest, EngineId, JobId, Manifest, TaskIndex, content_id, limits};
use tokio::sync::oneshot;

use super::args::{Global, PlaceArg, RunArgs};
use super::exit::{Context, Failure, Kind};
use super::inputs::Inputs;
use super::task::Loaded;
use super::{Output, places, run, sync, vouch};

/// How often it is looked whether the realm is back.
const LOOK: Duration = Duration::from_secs(1);
/// How often results are brought while the job waits for them: often enough that it does not go on
/// without, though one try fails.
const BRING: Duration = Duration::from_millis(limits::HOLD_MILLIS / 4);

/// Results that may wait for the disk, which takes them together: enough that the sandbox need not wait for
/// each sync, few enough that the largest outputs fit memory.
const ENDED_MAX: usize = 16;

/// What is to be run.
pub(crate) struct Plan<'a> {
    pub(crate) global: &'a Global,
    pub(crate) args: &'a RunArgs,
    pub(crate) loaded: &'a Loaded,
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) begun: Instant,
    pub(crate) output: Output,
}

/// The realm for which it is run.
pub(crate) struct Realm {
    pub(crate) client: Client,
    pub(crate) outbox: Outbox,
    pub(crate) work: Work,
}

/// A realm that is away, and what is kept for it.
struct Away<'a> {
    realm: &'a Realm,
    entry: Arc<Mutex<Entry>>,
}

/// What came of the tasks that were to be run here.
pub(crate) struct Home {
    /// Those that ended without an output.
    pub(crate) without: usize,
    /// Those that were not begun, because the realm is back and goes on with them.
    pub(crate) left: BTreeSet<usize>,
    /// The number under which the realm knows the job.
    pub(crate) job: Option<JobId>,
}

/// Begins to keep what is computed for a realm that is away. Where that cannot be done the work is done
/// all the same, and the user told.
fn keep<'a>(realm: &'a Realm, job: Option<JobId>, output: Output) -> Option<Away<'a>> {
    let begun = sync::past_damage(output, || realm.outbox.begin(&realm.work, job));
    let Some(entry) = begun else {
        output.note("results are shown, and not kept for the realm");
        return None;
    };
    let entry = Arc::new(Mutex::new(entry));
    Some(Away { realm, entry })
}

/// Runs `missing` tasks on an embedded local host, once their release is known to be trusted here. When
/// the realm for which it is done comes back meanwhile, it gets what there is, and the rest is left to it.
pub(crate) async fn work(
    plan: &Plan<'_>,
    missing: BTreeSet<usize>,
    realm: Option<(&Realm, Option<JobId>)>,
) -> Result<Home, Failure> {
    let (sender, control) = oneshot::channel();
    let mut task = Here::new(plan, missing)?;
    // Not before it is known that the work can be done here.
    let away = realm.and_then(|(realm, job)| keep(realm, job, plan.output));
    task.kept = away.as_ref().map(|away| Keeping {
        outbox: away.realm.outbox.clone(),
        entry: Arc::clone(&away.entry),
    });
    let mut worker = pin!(tokio::task::spawn_blocking(move || task.run(sender)));
    let back = Cell::new(None);
    let done = {
        let watch = async {
            match (&away, control.await) {
                (Some(away), Ok(control)) => watch(away, &control, &back, plan.output).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = &mut worker => done,
            () = watch => (&mut worker).await,
        }
    };
    let (without, left) = done.context(Kind::Failed, "the local host")??;
    let Some(away) = away else {
        let job = None;
        return Ok(Home { without, left, job });
    };
    let job = match back.get() {
        Some(job) => {
            bring_the_rest(away, plan.output).await;
            Some(job)
        }
        None => still_away(away, plan.output)?,
    };
    Ok(Home { without, left, job })
}

/// The work is done, and the realm has not come back. Gives the job's number, if it has one.
fn still_away(away: Away<'_>, output: Output) -> Result<Option<JobId>, Failure> {
    let (job, kept) = {
        let entry = away.entry.lock().unwrap_or_else(PoisonError::into_inner);
        (entry.job(), entry.counts().1)
    };
    if kept > 0 {
        output.note(format!(
            "{kept} results are kept for the realm: `hearth sync` hands them over when it is back"
        ));
    } else if let Some(entry) = Arc::into_inner(away.entry) {
        let entry = entry.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outbox = &away.realm.outbox;
        outbox.finish(entry).map_err(sync::outbox_failure)?;
    }
    Ok(job)
}

/// Looks whether the realm is back. When it is, it gets what there is, nothing more is begun here, and the
/// job waits there until what was begun has ended. Returns when the realm does not want it.
async fn watch(away: &Away<'_>, control: &JobControl, back: &Cell<Option<JobId>>, output: Output) {
    let client = &away.realm.client;
    loop {
        let pause = if back.get().is_some() { BRING } else { LOOK };
        tokio::time::sleep(pause).await;
        if let Err(error) = client.modes().await
            && error.is_unreachable()
        {
            continue;
        }
        match deliver(client, &away.entry, true).await {
            Ok(delivered) => {
                control.wind_down();
                if back.replace(Some(delivered.job)).is_none() {
                    let job = delivered.job;
                    output.note(format!("the realm is back: it goes on with {job}"));
                }
            }
            Err(error) if error.is_unreachable() => {}
            Err(error) => {
                let failure = sync::deliver_failure(error, &away.realm.outbox, &away.entry);
                output.note(format!("{failure}\n  going on here"));
                return;
            }
        }
    }
}

/// The realm is back: it gets the last results, and goes on by itself.
async fn bring_the_rest(away: Away<'_>, output: Output) {
    let Away { realm, entry } = away;
    match sync::hand_over(&realm.client, &realm.outbox, entry).await {
        Ok(delivered) => tracing::debug!(job = %delivered.job, "everything was handed over"),
        // It stays kept, and what the realm has of it is not computed again.
        Err(failure) => output.note(failure.to_string()),
    }
}

/// Where results are kept.
struct Keeping {
    outbox: Outbox,
    entry: Arc<Mutex<Entry>>,
}

/// Everything that the thread needs which runs the tasks.
struct Here {
    component: Component,
    manifest: Manifest,
    inputs: Arc<Inputs>,
    seed: Digest,
    ends: Option<Instant>,
    out: Option<std::path::PathBuf>,
    cache: std::path::PathBuf,
    missing: BTreeSet<usize>,
    kept: Option<Keeping>,
    output: Output,
    without: usize,
}

impl Here {
    fn new(plan: &Plan<'_>, missing: BTreeSet<usize>) -> Result<Self, Failure> {
        let (args, loaded) = (plan.args, plan.loaded);
        if args.options.place == PlaceArg::Volunteers {
            return Err(Failure::new(
                Kind::Unreachable,
                "the job wants volunteers and no coordinator can be reached",
            )
            .next("start one, or allow --place anywhere"));
        }
        let trusted = vouch::vouched(plan.global, loaded, plan.output)?;
        let component = Component::from_bytes(loaded.component.clone())
            .context(Kind::Rejected, "the component")?;
        let manifest = trusted.manifest.clone();
        // The limits of the manifest and the imports that it grants, as every node asks.
        hearth_sandbox::admit(component.bytes(), &manifest.imports, &manifest.limits)
            .context(Kind::Rejected, "the component")
            .map_err(|failure| failure.next("its author must sign it anew (hearth task sign)"))?;
        // As on the network, what is still open when the time is up ends without a result.
        let ends = args
            .options
            .deadline
            .and_then(|seconds| plan.begun.checked_add(Duration::from_secs(seconds)));
        Ok(Self {
            component,
            manifest,
            inputs: Arc::clone(&plan.inputs),
            seed: args.options.seed.unwrap_or_default(),
            ends,
            out: args.out.clone(),
            cache: places::user_data()?.join("cache"),
            missing,
            kept: None,
            output: plan.output,
            without: 0,
        })
    }

    /// Runs the tasks. Gives how many ended without an output, and those that were not begun.
    fn run(
        mut self,
        control: oneshot::Sender<JobControl>,
    ) -> Result<(usize, BTreeSet<usize>), Failure> {
        let host = LocalHost::builder()
            .runner_program(places::same_program())
            .cache(self.cache.clone())
            .start()
            .context(Kind::Failed, "starting the local host")?;
        let engine = host.engine().unwrap_or_else(hearth_sandbox::engine_id);
        self.show_known(engine)?;
        let indexes: Vec<usize> = self.missing.iter().copied().collect();
        if indexes.is_empty() {
            return Ok((self.without, self.missing));
        }
        let bar = self.output.bar(indexes.len() as u64, "here");
        let inputs = Arc::clone(&self.inputs);
        let wanted = indexes.iter().map(|index| &inputs.items[*index].1);
        let job = host
            .job(&self.component)
            .media_type(&self.inputs.media_type)
            .limits(self.manifest.limits)
            .seed(self.seed)
            .inputs(wanted);
        let job = match self.ends {
            Some(ends) => job.ends_at(ends),
            None => job,
        };
        let job = job.run().context(Kind::Rejected, "the job")?;
        // Nobody waits for it when there is no realm.
        let _ = control.send(job.control());
        let (to, ended) = mpsc::sync_channel(ENDED_MAX);
        std::thread::scope(|scope| {
            let this = &mut self;
            let shown = scope.spawn(move || {
                while let Ok(first) = ended.recv() {
                    let more = ended.try_iter().take(ENDED_MAX);
                    let all: Vec<TaskResult> = [first].into_iter().chain(more).collect();
                    this.keep_and_show(engine, &indexes, &all)?;
                    bar.inc(all.len() as u64);
                }
                bar.finish_and_clear();
                Ok(())
            });
            for result in job {
                if to.send(result).is_err() {
                    // It could not be shown, which is told below.
                    break;
                }
            }
            drop(to);
            match shown.join() {
                Ok(shown) => shown,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        Ok((self.without, self.missing))
    }

    /// On the disk first, all at once, then shown.
    fn keep_and_show(
        &mut self,
        engine: EngineId,
        indexes: &[usize],
        results: &[TaskResult],
    ) -> Result<(), Failure> {
        let kept = results.iter().map(|result| {
            let index = indexes[result.index];
            let content = self.content(index);
            Kept::new(engine, TaskIndex(index as u32), content, result)
        });
        let kept = self.kept.is_some().then(|| kept.collect());
        self.keep(kept.unwrap_or_default());
        for result in results {
            self.show(indexes[result.index], result)?;
        }
        Ok(())
    }

    /// What was computed before, for this job or for another, is not computed again.
    fn show_known(&mut self, engine: EngineId) -> Result<(), Failure> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let (outbox, entry) = (kept.outbox.clone(), Arc::clone(&kept.entry));
        let lock = || entry.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = sync::outbox_failure;
        let mut contents = std::collections::BTreeMap::new();
        for index in self.missing.clone() {
            let known = lock()
                .get(TaskIndex(index as u32), engine)
                .map_err(failed)?;
            match known {
                Some(known) => self.show(index, &known.into_result())?,
                None => {
                    let same: &mut Vec<usize> = contents.entry(self.content(index)).or_default();
                    same.push(index);
                }
            }
        }
        let (wanted, own) = (contents.keys().copied().collect(), lock().name().to_owned());
        let mut found = BTreeSet::new();
        let take = |known: Kept, found: &mut BTreeSet<usize>| {
            for index in &contents[&known.result.content] {
                let mut known = known.clone();
                known.result.index = TaskIndex(*index as u32);
                lock().keep([known])?;
                found.insert(*index);
            }
            Ok(())
        };
        sync::past_damage(self.output, || {
            outbox.known(engine, &wanted, &own, |known| take(known, &mut found))
        });
        for index in found {
            let known = lock()
                .get(TaskIndex(index as u32), engine)
                .map_err(failed)?;
            if let Some(known) = known {
                self.show(index, &known.into_result())?;
            }
        }
        Ok(())
    }

    /// On the disk before it is shown. A full disk, or more than is kept of one job, ends the keeping and
    /// not the work.
    fn keep(&mut self, results: Vec<Kept>) {
        let Some(kept) = &self.kept else {
            return;
        };
        let mut entry = kept.entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = entry.keep(results) {
            drop(entry);
            self.output.note(format!(
                "{}\n  further results are shown, and not kept for the realm",
                sync::outbox_failure(error)
            ));
            self.kept = None;
        }
    }

    fn show(&mut self, index: usize, result: &TaskResult) -> Result<(), Failure> {
        self.missing.remove(&index);
        self.without += usize::from(result.output().is_none());
        let (label, out) = (&self.inputs.items[index].0, self.out.as_deref());
        run::show(result, index, label, out, self.output)
    }

    fn content(&self, index: usize) -> Digest {
        let (_, input) = &self.inputs.items[index];
        let (media_type, seed) = (&self.inputs.media_type, &self.seed);
        content_id(&self.manifest, &Digest::of(input), media_type, seed)
    }
}

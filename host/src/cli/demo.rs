//! `hearth demo`: a realm, three volunteers, a picture; one is killed, the network is cut, and the
//! picture is the same.

mod picture;
mod realm;
mod relay;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth::client::{Client, ClientIdentity};
use hearth::{Component, LocalHost};
use hearth_wire::api::{JobEvent, JobState, JobStatus, Mode, ModeReport};
use hearth_wire::{Digest, JobId, JobOptions};
use serde_json::{Value, json};

use super::args::{DemoArgs, Global};
use super::exit::{Context, Failure, Kind};
use super::identity::now;
use super::inputs::Inputs;
use super::jobs::{self, failure};
use super::task::Loaded;
use super::{Output, output, places, run, task};
use picture::Picture;
use realm::Realm;
use relay::Relay;
use view::View;

const VOLUNTEERS: [&str; 3] = ["ada", "grace", "edsger"];
/// Shares of the picture after which a volunteer is killed and the network is cut.
const KILL_AT: f64 = 0.25;
const CUT_AT: f64 = 0.55;
/// The known Mersenne exponents among the demo's inputs are checked against this list (OEIS A000043).
const MERSENNE_EXPONENTS: [u64; 21] = [
    2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217, 4253, 4423,
    9689,
];
const MERSENNE_INPUTS: &str = include_str!("../../../tasks/mersenne/inputs.jsonl");
/// The two longest tests take most of the time and are left out of the quick demo.
const QUICK_EXPONENT_MAX: u64 = 2300;

pub(crate) async fn run(args: &DemoArgs, output: Output) -> Result<(), Failure> {
    let tasks = tasks(args)?;
    let folder = args.out.join("realm");
    clear(&folder)?;
    let outcome = story(args, &tasks, &folder, output).await;
    match &outcome {
        // Whoever looks for the reason needs the logs.
        Err(_) => output.note(format!(
            "the logs of all processes are in {}",
            folder.display()
        )),
        Ok(()) if args.keep => {}
        Ok(()) => {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    outcome
}

/// The folder with the example components: as told, or where building them beside this program puts
/// them.
fn tasks(args: &DemoArgs) -> Result<PathBuf, Failure> {
    let program = places::this_program()?;
    let beside = || {
        program
            .ancestors()
            .skip(1)
            .take(2)
            .map(|dir| dir.join("guests"))
    };
    let places: Vec<_> = match &args.tasks {
        Some(tasks) => vec![tasks.clone()],
        None => beside().collect(),
    };
    let has_both = |dir: &PathBuf| {
        let is_there = |name| component(dir, name).is_file();
        is_there("render") && is_there("mersenne")
    };
    if let Some(found) = places.iter().find(|dir| has_both(dir)) {
        return Ok(found.clone());
    }
    let tried: Vec<_> = places.iter().map(|dir| dir.display().to_string()).collect();
    Err(Failure::rejected(format!(
        "the example components render and mersenne are not in {}",
        tried.join(" or ")
    ))
    .next("in a checkout `cargo xtask guests` builds them, and `cargo xtask demo` does all of it; or name their folder with --tasks DIR"))
}

fn component(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.component.wasm"))
}

/// An empty folder that is ours: whatever an earlier demo left is removed, anything else is not.
fn clear(folder: &Path) -> Result<(), Failure> {
    if folder.exists() {
        if !folder.join("realm").exists()
            && std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(Failure::rejected(format!(
                "{} holds something that is not a demo's",
                folder.display()
            ))
            .next("choose another folder with --out"));
        }
        std::fs::remove_dir_all(folder)
            .context(Kind::Failed, format!("clearing {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).context(Kind::Failed, format!("making {}", folder.display()))
}

async fn story(
    args: &DemoArgs,
    tasks: &Path,
    folder: &Path,
    output: Output,
) -> Result<(), Failure> {
    let picture = if args.quick {
        Picture::QUICK
    } else {
        Picture::FULL
    };
    let relay = Relay::start().await?;
    output.say("a throwaway realm: one coordinator with its local host, three volunteers")?;
    let mut realm = Realm::init(folder, &[relay.address().to_string()]).await?;
    let address = realm.coordinator(([127, 0, 0, 1], 0).into()).await?;
    relay.forward(address);
    for name in VOLUNTEERS {
        realm.volunteer(name).await?;
    }
    let identity = ClientIdentity::open(&realm.dir(), now())
        .map_err(failure)?
        .with_addresses(vec![address.to_string()]);
    let client = Client::new(identity).map_err(failure)?;
    volunteers_are_there(&client).await?;

    let loaded = task::load(&component(tasks, "render"))?;
    let tiles = picture.inputs()?;
    let rendered = render(
        &client, &mut realm, &relay, &loaded, picture, &tiles, output,
    )
    .await?;

    output.say("the same job on a local host alone, without a network:")?;
    let begun = Instant::now();
    let local = render_here(&loaded, &tiles, &folder.join("cache"), output).await?;
    let local_seconds = begun.elapsed().as_secs_f64();
    let different = rendered
        .tiles
        .iter()
        .zip(&local)
        .filter(|(ours, theirs)| ours != theirs)
        .count();
    if different > 0 {
        return Err(Failure::failed(format!(
            "{different} of {} tiles differ between network and local host",
            tiles.len()
        )));
    }
    output.say(format!("  all {} tiles have equal digests", tiles.len()))?;
    let path = args.out.join("picture.png");
    picture.write(&rendered.tiles, &path)?;

    relay.mend();
    output.say("the network is back; now mersenne, the Lucas–Lehmer test:")?;
    let loaded = task::load(&component(tasks, "mersenne"))?;
    let primes = mersenne(&client, &realm, &loaded, args.quick, output).await?;

    let modes = client.modes().await.map_err(failure)?;
    let summary = summary(&rendered, local_seconds, &modes, primes);
    places::write(
        &args.out.join("demo.json"),
        format!("{summary:#}\n").as_bytes(),
    )?;
    print_summary(&rendered, local_seconds, &modes, output)?;
    if args.keep {
        let path = path.display();
        output.say(format!(
            "\nthe realm stays until Ctrl-C. Try, in another terminal:\n  export HEARTH_REALM={}",
            realm.dir().display()
        ))?;
        output.say("  hearth nodes\n  hearth modes\n  hearth jobs\n  hearth results job-1")?;
        output.say(format!("picture: {path}"))?;
        let _ = tokio::signal::ctrl_c().await;
    }
    realm.stop().await;
    if output.json {
        output.document(&summary)?;
    } else {
        output.say(path.display().to_string())?;
    }
    Ok(())
}

async fn volunteers_are_there(client: &Client) -> Result<(), Failure> {
    let begun = Instant::now();
    while client.modes().await.map_err(failure)?.volunteers < VOLUNTEERS.len() as u32 {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(
                Failure::new(Kind::TimedOut, "the volunteers did not come up")
                    .next("read what they say in their logs"),
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// What came of the picture on the network.
struct Rendered {
    tiles: Vec<Vec<u8>>,
    status: JobStatus,
    seconds: f64,
}

/// Renders on the network while a volunteer is killed and the network is cut.
async fn render(
    client: &Client,
    realm: &mut Realm,
    relay: &Relay,
    loaded: &Loaded,
    picture: Picture,
    tiles: &[Vec<u8>],
    output: Output,
) -> Result<Rendered, Failure> {
    let begun = Instant::now();
    let job = submit(client, realm, loaded, tiles, "picture", output).await?;
    let mut view = View::new(output, picture.columns(), tiles.len());
    view.tell(&format!(
        "{job}: {} tiles of {} by {} pixels",
        tiles.len(),
        picture.tile,
        picture.tile
    ));
    let names = Names::new(client).await?;
    let mut events = client.events(job).await.map_err(failure)?;
    // What happened before the first event and between events that were missed.
    catch_up(client, job, &names, &mut view).await?;
    let (mut killed, mut cut, mut ended) = (false, false, false);
    while !ended {
        let Some(event) = events.next().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            events = client.events(job).await.map_err(failure)?;
            catch_up(client, job, &names, &mut view).await?;
            continue;
        };
        match event.map_err(failure)? {
            JobEvent::Leased { task, node, .. } => {
                view.leased(task.index.0 as usize, names.of(&node))
            }
            JobEvent::Result(result) => {
                let node = result.processed_by.as_deref().unwrap_or_default();
                view.done(result.index as usize, names.of(node));
            }
            JobEvent::Mode(report) => {
                view.tell(&format!("mode: {} ({})", mode(report.mode), report.reason))
            }
            JobEvent::Job(status) => ended = status.state != JobState::Open,
            JobEvent::Resync { .. } => catch_up(client, job, &names, &mut view).await?,
            _ => {}
        }
        let share = view.finished() as f64 / tiles.len() as f64;
        if !killed && share >= KILL_AT {
            killed = true;
            realm.kill(VOLUNTEERS[0]).await?;
            view.tell(&format!("kill -9 of volunteer {}", VOLUNTEERS[0]));
        }
        if !cut && share >= CUT_AT {
            cut = true;
            relay.cut();
            view.tell("the network is cut: no volunteer can be reached any more");
        }
    }
    catch_up(client, job, &names, &mut view).await?;
    view.end();
    let seconds = begun.elapsed().as_secs_f64();
    let status = client.job(job, None).await.map_err(failure)?;
    jobs::complete(&status)?;
    went_as_told(client, &status, killed, cut).await?;
    let tiles = outputs(client, job, tiles.len()).await?;
    Ok(Rendered {
        tiles,
        status,
        seconds,
    })
}

/// Puts every result that there is into the view.
async fn catch_up(
    client: &Client,
    job: JobId,
    names: &Names,
    view: &mut View,
) -> Result<(), Failure> {
    let mut from = Some(0);
    while let Some(start) = from {
        let page = client.results(job, start).await.map_err(failure)?;
        for result in &page.results {
            if let Some(node) = &result.processed_by {
                view.done(result.index as usize, names.of(node));
            }
        }
        from = page.next;
    }
    Ok(())
}

/// A demo that shows something else than it says is a failed one.
async fn went_as_told(
    client: &Client,
    status: &JobStatus,
    killed: bool,
    cut: bool,
) -> Result<(), Failure> {
    let local = status.nodes.iter().find(|share| share.node == "local");
    let told = [
        (killed, "no volunteer was killed"),
        (cut, "the network was not cut"),
        (status.retries > 0, "no tile was leased again"),
        (
            local.is_some_and(|share| share.results > 0),
            "the local host did no tile",
        ),
        (became_local(client).await?, "mode local never came"),
    ];
    match told.into_iter().find(|(happened, _)| !happened) {
        None => Ok(()),
        Some((_, what)) => Err(Failure::failed(format!(
            "the picture is whole, but the story was another: {what}"
        ))
        .next("the picture may be too small for this machine, or the machine too busy: try again")),
    }
}

/// Whether the realm noticed that it is alone. The job may have ended a moment before it did.
async fn became_local(client: &Client) -> Result<bool, Failure> {
    let begun = Instant::now();
    loop {
        let report = client.modes().await.map_err(failure)?;
        let ever = report
            .switches
            .iter()
            .any(|switch| switch.mode == Mode::Local);
        if ever || report.mode == Mode::Local || begun.elapsed() > Duration::from_secs(10) {
            return Ok(ever || report.mode == Mode::Local);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn submit(
    client: &Client,
    realm: &Realm,
    loaded: &Loaded,
    inputs: &[Vec<u8>],
    name: &str,
    output: Output,
) -> Result<JobId, Failure> {
    let global = Global {
        realm: Some(realm.dir()),
        json: false,
        verbose: 0,
    };
    let release = task::release_of(&global, loaded)?;
    let items = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| (at.to_string(), input.clone()))
        .collect();
    let inputs = Inputs {
        media_type: "application/json".to_owned(),
        items,
    };
    let options = JobOptions {
        name: name.to_owned(),
        ..JobOptions::default()
    };
    let component = loaded.component.clone();
    let work = jobs::work(release, component, &inputs, options)?;
    let accepted = jobs::hand_over(client, &work, output).await;
    Ok(accepted.map_err(failure)?.job)
}

/// All outputs of a job, in order.
async fn outputs(client: &Client, job: JobId, count: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = vec![Vec::new(); count];
    let mut from = Some(0);
    while let Some(start) = from {
        let page = client.results(job, start).await.map_err(failure)?;
        for result in &page.results {
            let bytes = jobs::bytes(client, job, result).await?;
            found[result.index as usize] =
                bytes.ok_or_else(|| Failure::failed(jobs::problem(result)))?;
        }
        from = page.next;
    }
    Ok(found)
}

/// The same tiles from an embedded local host with confined runners.
async fn render_here(
    loaded: &Loaded,
    tiles: &[Vec<u8>],
    cache: &Path,
    output: Output,
) -> Result<Vec<Vec<u8>>, Failure> {
    let component =
        Component::from_bytes(loaded.component.clone()).context(Kind::Rejected, "render")?;
    let (limits, tiles, cache) = (loaded.draft.limits, tiles.to_vec(), cache.to_owned());
    let program = places::this_program()?;
    let work = move || {
        let host = LocalHost::builder()
            .runner_program(program)
            .cache(cache)
            .start()
            .context(Kind::Failed, "starting the local host")?;
        let bar = output.bar(tiles.len() as u64, "local");
        let job = host
            .job(&component)
            .media_type("application/json")
            .limits(limits)
            .inputs(&tiles);
        let mut found = vec![Vec::new(); tiles.len()];
        for result in job.run().context(Kind::Failed, "rendering")? {
            let bytes = result.output().ok_or_else(|| {
                Failure::failed(run::describe(&result.outcome.clone().into_outcome().0))
            })?;
            found[result.index] = bytes.to_vec();
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(found)
    };
    tokio::task::spawn_blocking(work)
        .await
        .context(Kind::Failed, "the local host")?
}

/// Runs the Lucas–Lehmer test on the example's inputs and checks the answers against the known list.
async fn mersenne(
    client: &Client,
    realm: &Realm,
    loaded: &Loaded,
    quick: bool,
    output: Output,
) -> Result<usize, Failure> {
    let exponent = |input: &str| {
        serde_json::from_str::<Value>(input)
            .ok()
            .and_then(|input| input["exponent"].as_u64())
    };
    let wanted = |input: &&str| {
        exponent(input).is_some_and(|exponent| !quick || exponent <= QUICK_EXPONENT_MAX)
    };
    let inputs: Vec<_> = MERSENNE_INPUTS
        .lines()
        .filter(wanted)
        .map(|line| line.as_bytes().to_vec())
        .collect();
    let job = submit(client, realm, loaded, &inputs, "mersenne", output).await?;
    let bar = output.bar(inputs.len() as u64, "mersenne");
    let status = loop {
        let status = client.job(job, None).await.map_err(failure)?;
        bar.set_position(status.counts.settled.into());
        if status.state != JobState::Open {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    bar.finish_and_clear();
    jobs::complete(&status)?;
    let mut primes = Vec::new();
    for bytes in outputs(client, job, inputs.len()).await? {
        let result: Value =
            serde_json::from_slice(&bytes).context(Kind::Failed, "reading a result")?;
        let exponent = result["exponent"].as_u64().unwrap_or_default();
        let prime = result["prime"].as_bool().unwrap_or_default();
        if prime != MERSENNE_EXPONENTS.contains(&exponent) {
            return Err(Failure::failed(format!(
                "2^{exponent} - 1: the task says prime = {prime}, the known list differs"
            )));
        }
        if prime {
            primes.push(exponent);
        }
    }
    primes.sort_unstable();
    let shown: Vec<_> = primes.iter().map(ToString::to_string).collect();
    output.say(format!(
        "  of {} exponents these give primes, as is known: {}",
        inputs.len(),
        shown.join(", ")
    ))?;
    Ok(primes.len())
}

/// Names of nodes by id.
struct Names(BTreeMap<String, String>);

impl Names {
    async fn new(client: &Client) -> Result<Self, Failure> {
        let list = client.nodes().await.map_err(failure)?;
        Ok(Self(
            list.nodes
                .into_iter()
                .map(|node| (node.node_id, node.name))
                .collect(),
        ))
    }

    fn of<'a>(&'a self, node: &'a str) -> &'a str {
        if node == "local" {
            "local host"
        } else {
            self.0.get(node).map_or(node, String::as_str)
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Distributed => "distributed",
        Mode::Hybrid => "hybrid",
        Mode::Local => "local",
    }
}

fn summary(rendered: &Rendered, local_seconds: f64, modes: &ModeReport, primes: usize) -> Value {
    let digests: Vec<_> = rendered.tiles.iter().map(|tile| Digest::of(tile)).collect();
    json!({
        "tiles": rendered.tiles.len(), "seconds": rendered.seconds, "seconds_local": local_seconds,
        "retries": rendered.status.retries, "nodes": rendered.status.nodes,
        "modes": modes.switches, "digests": digests, "digests_equal": true, "mersenne_primes": primes,
    })
}

fn print_summary(
    rendered: &Rendered,
    local_seconds: f64,
    modes: &ModeReport,
    output: Output,
) -> Result<(), Failure> {
    let mut rows: Vec<_> = rendered
        .status
        .nodes
        .iter()
        .map(|share| {
            vec![
                format!(
                    "tiles by {}",
                    if share.node == "local" {
                        "the local host"
                    } else {
                        &share.name
                    }
                ),
                share.results.to_string(),
            ]
        })
        .collect();
    rows.push(vec![
        "tiles leased again".to_owned(),
        rendered.status.retries.to_string(),
    ]);
    let switches = modes
        .switches
        .iter()
        .rev()
        .map(|switch| mode(switch.mode))
        .collect::<Vec<_>>()
        .join(" → ");
    rows.push(vec!["modes".to_owned(), switches]);
    rows.push(vec![
        "seconds on the network".to_owned(),
        format!("{:.1}", rendered.seconds),
    ]);
    rows.push(vec![
        "seconds on a local host alone".to_owned(),
        format!("{local_seconds:.1}"),
    ]);
    rows.push(vec!["digests".to_owned(), "equal, tile by tile".to_owned()]);
    output.say(String::new())?;
    output.say(output::table(&["DEMO", ""], rows))
}

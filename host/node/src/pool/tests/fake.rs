//! A runner and a compiler that do what the input tells them, well or badly.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_wire::codec;
use hearth_wire::message::{LogLevel, Progress};
use hearth_wire::runner::{
    CompileReply, CompileRequest, Confinement, Finished, FromRunner, Ready, Run, RunOutcome,
    ToRunner,
};
use hearth_wire::{AttemptId, Digest, EngineId, Inconclusive};

use super::super::launcher::{Kind, Launcher};

const MAX: usize = hearth_wire::limits::RUNNER_FRAME_BYTES_MAX;

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) compiled: AtomicUsize,
    pub(crate) at_once: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
    died: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Switch {
    cancelled: AtomicBool,
    paused: AtomicBool,
}

pub(crate) fn engine() -> EngineId {
    EngineId {
        version: [48, 0, 8],
        semantics: Digest::of(b"fake"),
    }
}

/// The fake as a program: this test binary, asked to run [`child`] only.
pub(crate) fn program() -> Launcher {
    let args: Vec<String> = ["--exact", "pool::tests::fake::child", "--nocapture"]
        .map(str::to_owned)
        .to_vec();
    Launcher::Program {
        path: std::env::current_exe().unwrap(),
        runner_args: args.clone(),
        compiler_args: args,
    }
}

/// Serves as a runner or compiler if its standard input is a socket, as it is under [`program`].
#[test]
fn child() {
    let Ok(fd) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return;
    };
    let stream = UnixStream::from(fd);
    if stream.peer_addr().is_ok() {
        let fake = Fake::new();
        // Which of the two is told by the first message: a runner speaks first, so try both.
        fake.either(stream);
    }
}

fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> Option<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).ok()?;
    Some(codec::decode(&bytes, MAX).unwrap())
}

fn write(stream: &Mutex<UnixStream>, message: &impl serde::Serialize) {
    let frame = codec::encode(message);
    let mut bytes = (frame.len() as u32).to_le_bytes().to_vec();
    bytes.extend(frame);
    let _gone = stream.lock().unwrap().write_all(&bytes);
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn launcher(self: &Arc<Self>) -> Launcher {
        let fake = Arc::clone(self);
        Launcher::InProcess(Arc::new(move |stream, kind| match kind {
            Kind::Runner => fake.run(stream),
            Kind::Compiler => fake.compile(stream),
        }))
    }

    fn either(self: &Arc<Self>, stream: UnixStream) {
        // A compile request comes at once; a runner is spoken to only after it is ready.
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let first = rustix::net::recv(&stream, &mut [0; 1], rustix::net::RecvFlags::PEEK);
        stream.set_read_timeout(None).unwrap();
        match first {
            Ok(_) => self.compile(stream),
            Err(_) => self.run(stream),
        }
    }

    fn compile(&self, mut stream: UnixStream) {
        let Some(request) = read::<CompileRequest>(&mut stream) else {
            return;
        };
        let before = self.compiled.fetch_add(1, Ordering::SeqCst);
        let reply = match &request.component[..] {
            b"unfit" => CompileReply::Unfit("imports wasi:sockets".to_owned()),
            b"slow" => {
                std::thread::sleep(Duration::from_secs(3));
                return;
            }
            b"endless" => {
                // Until the other side hangs up.
                let _end = stream.read(&mut [0]);
                return;
            }
            b"die" => return,
            b"spin" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::XCPU).unwrap();
                return;
            }
            b"die-once" if before == 0 => return,
            b"unloadable" => CompileReply::Compiled {
                artefact: b"rotten".to_vec(),
            },
            b"rotten at first" if before == 0 => CompileReply::Compiled {
                artefact: b"rotten".to_vec(),
            },
            other => CompileReply::Compiled {
                artefact: [b"artefact of ", other].concat(),
            },
        };
        write(&Mutex::new(stream), &reply);
    }

    pub(crate) fn run(self: &Arc<Self>, mut stream: UnixStream) {
        let out = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let ready = Ready {
            engine: engine(),
            code: Digest::default(),
            confinement: Confinement::default(),
        };
        write(&out, &FromRunner::Ready(ready));
        let mut switches: HashMap<AttemptId, Arc<Switch>> = HashMap::new();
        let throttled = Arc::new(AtomicBool::new(false));
        let (mut loaded, mut rotten) = (Vec::new(), Vec::new());
        while let Some(message) = read::<ToRunner>(&mut stream) {
            match message {
                ToRunner::Load {
                    component,
                    artefact,
                } => {
                    rotten.retain(|c| *c != component);
                    if artefact == b"rotten" {
                        rotten.push(component);
                    } else {
                        assert!(artefact.starts_with(b"artefact of "));
                    }
                    loaded.push(component);
                }
                ToRunner::Unload(component) => loaded.retain(|c| *c != component),
                ToRunner::Run(runs) => {
                    for run in runs {
                        assert!(loaded.contains(&run.component), "run before load");
                        if rotten.contains(&run.component) {
                            let (attempt, text) = (run.attempt, "artefact: torn".to_owned());
                            write(&out, &FromRunner::NotLoaded { attempt, text });
                            continue;
                        }
                        let switch = Arc::<Switch>::default();
                        switches.insert(run.attempt, Arc::clone(&switch));
                        let (fake, out) = (Arc::clone(self), Arc::clone(&out));
                        let throttled = Arc::clone(&throttled);
                        std::thread::spawn(move || fake.attempt(&run, &out, &switch, &throttled));
                    }
                }
                ToRunner::Cancel(attempts) => attempts.iter().for_each(|attempt| {
                    if let Some(switch) = switches.get(attempt) {
                        switch.cancelled.store(true, Ordering::SeqCst);
                    }
                }),
                ToRunner::Pause(attempts) => attempts
                    .iter()
                    .for_each(|a| switches[a].paused.store(true, Ordering::SeqCst)),
                ToRunner::Resume(attempts) => attempts
                    .iter()
                    .for_each(|a| switches[a].paused.store(false, Ordering::SeqCst)),
                ToRunner::Throttle(percent) => throttled.store(percent == 0, Ordering::SeqCst),
                ToRunner::Shutdown => break,
            }
        }
        let _gone = out.lock().unwrap().shutdown(std::net::Shutdown::Both);
    }

    fn attempt(&self, run: &Run, out: &Mutex<UnixStream>, switch: &Switch, throttled: &AtomicBool) {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let input = String::from_utf8(run.input.clone()).unwrap();
        let (verb, rest) = input.split_once(' ').unwrap_or((&input, ""));
        let mut finished = Finished {
            attempt: run.attempt,
            outcome: RunOutcome::Inconclusive(Inconclusive::StackOverflow),
            fuel_used: 1,
            run_micros: 10_000,
            log_bytes_dropped: 0,
        };
        let returned = |text: &str| RunOutcome::Returned {
            media_type: "text/plain".to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        let die = || {
            let _gone = out.lock().unwrap().shutdown(std::net::Shutdown::Both);
        };
        let raw = |bytes: &[u8]| {
            let _gone = out.lock().unwrap().write_all(bytes);
        };
        match verb {
            "echo" => {
                finished.run_micros = 50;
                finished.outcome = returned(rest);
            }
            "sleep" => {
                let mut left: u64 = rest.parse().unwrap();
                while left > 0 && !switch.cancelled.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                    let parked =
                        switch.paused.load(Ordering::SeqCst) || throttled.load(Ordering::SeqCst);
                    left = left.saturating_sub(if parked { 0 } else { 5 });
                }
                finished.outcome = if left == 0 {
                    returned("slept")
                } else {
                    RunOutcome::Inconclusive(Inconclusive::Cancelled)
                };
            }
            "die" => return die(),
            "die-once" => {
                let mut died = self.died.lock().unwrap();
                if !died.contains(&rest.to_owned()) {
                    died.push(rest.to_owned());
                    return die();
                }
                finished.outcome = returned("survived");
            }
            "deaf" => return,
            "claim" => {
                finished.attempt = AttemptId(rest.parse().unwrap());
                finished.outcome = returned("stolen");
            }
            "claim-cancelled" => {
                finished.outcome = RunOutcome::Inconclusive(Inconclusive::Cancelled);
            }
            "huge-frame" => return raw(&u32::MAX.to_le_bytes()),
            "rubbish" => return raw(&[4, 0, 0, 0, 1, 250, 250, 250]),
            "ready-again" => {
                return write(
                    out,
                    &FromRunner::Ready(Ready {
                        engine: engine(),
                        code: Digest::default(),
                        confinement: Confinement::default(),
                    }),
                );
            }
            "too-much-output" => {
                finished.outcome = returned(&"x".repeat(run.limits.output_bytes as usize + 1));
            }
            "too-much-fuel" => {
                finished.fuel_used = run.limits.fuel + 1;
                finished.outcome = returned("cheap");
            }
            "flood" => {
                let attempt = run.attempt;
                for done in 0..rest.parse().unwrap() {
                    write(
                        out,
                        &FromRunner::Progress(vec![Progress {
                            attempt,
                            done,
                            total: None,
                        }]),
                    );
                    if done % 100 == 0 {
                        write(
                            out,
                            &FromRunner::Log {
                                attempt,
                                level: LogLevel::Info,
                                text: "\u{1b}[2J".repeat(1000),
                            },
                        );
                    }
                }
                finished.outcome = returned("flooded");
            }
            "checkpoints" => {
                let save = |attempt, state: &[u8]| {
                    write(
                        out,
                        &FromRunner::Checkpoint {
                            attempt,
                            state: state.to_vec(),
                            fuel_used: 7,
                        },
                    );
                };
                save(run.attempt, b"state");
                save(AttemptId(77), b"another's");
                save(
                    run.attempt,
                    &vec![0; run.limits.checkpoint_bytes as usize + 1],
                );
                finished.outcome = returned("saved");
            }
            "pid" => finished.outcome = returned(&std::process::id().to_string()),
            "look" => {
                let sockets = std::fs::read_dir("/proc/self/fd")
                    .unwrap()
                    .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
                    .filter(|target| target.to_string_lossy().starts_with("socket:"))
                    .collect::<std::collections::BTreeSet<_>>()
                    .len();
                let environment = std::env::vars_os().count();
                let leader = rustix::process::getpgid(None).unwrap() == rustix::process::getpid();
                finished.outcome = returned(&format!(
                    "sockets={sockets} environment={environment} leader={leader}"
                ));
            }
            "state" => {
                let resume = run.resume.clone().unwrap();
                finished.fuel_used = resume.fuel_used + 1;
                finished.outcome = returned(&String::from_utf8(resume.state).unwrap());
            }
            "large" => finished.outcome = returned(&"x".repeat(rest.parse().unwrap())),
            other => panic!("{other}"),
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        write(out, &FromRunner::Finished(vec![finished]));
    }
}

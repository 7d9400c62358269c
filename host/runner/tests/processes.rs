//! Runners and compilers as real, confined processes: this program executed again.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio, exit};
use std::time::{Duration, Instant};

use hearth_runner::{
    CompilerOptions, RunnerOptions, confine_by_landlock_alone, inherited_stream, serve_compiler,
    serve_runner,
};
use hearth_wire::runner::{CompileReply, ToRunner};
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use support::{Node, compile, compile_request, component, component_with, echoed, run};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("child-runner") => serve_runner(inherited_stream().unwrap(), &options()).unwrap(),
        Some("child-prober") => {
            serve_runner(inherited_stream().unwrap(), &options()).unwrap();
            exit(probe());
        }
        Some("child-behind-landlock") => {
            assert!(confine_by_landlock_alone().unwrap(), "it is there");
            exit(probe_landlock());
        }
        Some("child-compiler") => {
            serve_compiler(inherited_stream().unwrap(), &CompilerOptions::default()).unwrap();
        }
        Some("child-small-compiler") => {
            let small = CompilerOptions {
                memory_bytes_max: 96 << 20,
                ..CompilerOptions::default()
            };
            serve_compiler(inherited_stream().unwrap(), &small).unwrap();
        }
        Some("child-hasty-compiler") => {
            let hasty = CompilerOptions {
                cpu_seconds_max: 1,
                ..CompilerOptions::default()
            };
            serve_compiler(inherited_stream().unwrap(), &hasty).unwrap();
        }
        filter => tests(filter.filter(|filter| !filter.starts_with('-'))),
    }
}

fn tests(filter: Option<&str>) {
    let tests: &[(&str, fn())] = &[
        (
            "confined_process_can_open_connect_and_execute_nothing",
            confined_process_can_open_connect_and_execute_nothing,
        ),
        (
            "landlock_alone_refuses_files_programs_and_connections",
            landlock_alone_refuses_files_programs_and_connections,
        ),
        (
            "confined_runner_runs_what_a_confined_compiler_made",
            confined_runner_runs_what_a_confined_compiler_made,
        ),
        (
            "runner_holds_no_descriptor_but_its_stream",
            runner_holds_no_descriptor_but_its_stream,
        ),
        ("runner_ends_with_its_node", runner_ends_with_its_node),
        (
            "compiler_without_memory_dies_alone",
            compiler_without_memory_dies_alone,
        ),
        (
            "compiler_without_time_is_told_by_its_signal",
            compiler_without_time_is_told_by_its_signal,
        ),
    ];
    let mut ran = 0;
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter)) {
            test();
            println!("test {name} ... ok");
            ran += 1;
        }
    }
    println!("\ntest result: ok. {ran} passed");
}

fn options() -> RunnerOptions {
    RunnerOptions {
        slots: 2,
        ..RunnerOptions::default()
    }
}

/// As a node starts its children: nothing but standard streams, of which the first is ours.
fn spawn(role: &str) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .arg(role)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    (ours, child)
}

fn wait(mut child: Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs inside of the walls; the number of what should fail and does not.
fn probe() -> i32 {
    let mut holes = Vec::new();
    let mut must_fail = |what: &'static str, worked: bool| {
        if worked {
            holes.push(what);
        }
    };
    must_fail("open a file", fs::File::open("/etc/passwd").is_ok());
    must_fail("list a folder", fs::read_dir("/").is_ok());
    must_fail("write a file", fs::write("/tmp/hearth-probe", b"x").is_ok());
    must_fail(
        "delete a file",
        fs::remove_file("/tmp/hearth-probe-gone").is_ok(),
    );
    must_fail("open itself", fs::File::open("/proc/self/maps").is_ok());
    must_fail(
        "connect",
        TcpStream::connect("127.0.0.1:9").is_ok_or_refused(),
    );
    must_fail("make a socket", UdpSocket::bind("127.0.0.1:0").is_ok());
    must_fail("make a socketpair", UnixStream::pair().is_ok());
    must_fail("execute", Command::new("/bin/true").status().is_ok());
    must_fail("make a pipe", std::io::pipe().is_ok());
    // What it needs still works.
    must_fail(
        "not start a thread",
        std::thread::Builder::new()
            .spawn(|| ())
            .map(|thread| thread.join().is_err())
            .unwrap_or(true),
    );
    for hole in &holes {
        println!("{hole}");
    }
    holes.len() as i32
}

trait IsOkOrRefused {
    fn is_ok_or_refused(&self) -> bool;
}

impl IsOkOrRefused for std::io::Result<TcpStream> {
    /// A refused connection was a connection tried.
    fn is_ok_or_refused(&self) -> bool {
        !matches!(self, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

fn confined_process_can_open_connect_and_execute_nothing() {
    let (stream, child) = spawn("child-prober");
    let node = Node::new(stream);
    let walls = node.ready.confinement;
    assert!(
        walls.no_new_privileges && walls.seccomp && walls.rlimits,
        "{walls:?}"
    );
    assert_eq!(walls.landlock, has_landlock(), "{walls:?}");
    drop(node);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "it could: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Whether this kernel has landlock and lets it be used.
fn has_landlock() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(AccessFs::from_all(ABI::V1));
    rules.and_then(Ruleset::create).is_ok()
}

/// Landlock on connections came later.
fn has_landlock_for_networks() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(AccessNet::ConnectTcp);
    rules.and_then(Ruleset::create).is_ok()
}

/// Behind landlock and nothing else; the number of what is not refused.
fn probe_landlock() -> i32 {
    let mut tried = vec![
        ("open a file", fs::File::open("/etc/passwd").err()),
        ("open itself", fs::File::open("/proc/self/maps").err()),
        ("list a folder", fs::read_dir("/").err()),
        ("write a file", fs::write("/tmp/hearth-probe", b"x").err()),
        (
            "make a folder",
            fs::create_dir("/tmp/hearth-probe-folder").err(),
        ),
        ("execute", Command::new("/bin/true").status().err()),
    ];
    // To ask is to make a ruleset, which no wall here forbids.
    if has_landlock_for_networks() {
        tried.push(("connect", TcpStream::connect("127.0.0.1:9").err()));
    }
    let mut holes = 0;
    for (what, error) in tried {
        let refused = error.as_ref().map(std::io::Error::kind);
        if refused != Some(std::io::ErrorKind::PermissionDenied) {
            println!("{what}: {error:?}");
            holes += 1;
        }
    }
    // Seccomp is not what refused: it would refuse this too.
    if UnixStream::pair().is_err() {
        println!("another wall stands");
        holes += 1;
    }
    holes
}

fn landlock_alone_refuses_files_programs_and_connections() {
    if !has_landlock() {
        println!("skipped: this kernel has no landlock");
        return;
    }
    let (_stream, child) = spawn("child-behind-landlock");
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "not refused: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn confined_runner_runs_what_a_confined_compiler_made() {
    let (stream, child) = spawn("child-compiler");
    let CompileReply::Compiled { artefact } = compile(stream, component()) else {
        panic!("not compiled");
    };
    assert!(wait(child).success());

    let (stream, child) = spawn("child-runner");
    let mut node = Node::new(stream);
    node.load(artefact);
    node.send(&ToRunner::Run(
        (0..50).map(|n| run(n, &[1, n as u8])).collect(),
    ));
    node.send(&ToRunner::Shutdown);
    while node.hear() {}
    for n in 0..50 {
        assert_eq!(*node.outcome(n), echoed(&[1, n as u8]));
    }
    assert!(wait(child).success());
}

fn runner_holds_no_descriptor_but_its_stream() {
    // A secret that the parent holds open must not reach the child.
    let secret = fs::File::open("/etc/hostname").unwrap();
    // Nor one that whoever opened it did not mark, as libraries in C do.
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    let (request, compiler) = spawn("child-compiler");
    let (stream, child) = spawn("child-runner");
    let node = Node::new(stream);
    // A compiler closes it before it waits for its request.
    let folder = format!("/proc/{}/fd", compiler.id());
    let begun = Instant::now();
    let clean = || {
        let open = fs::read_dir(&folder).unwrap().flatten();
        let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        !targets
            .map(|target| target.to_string_lossy().into_owned())
            .any(|t| t.contains("hostname"))
    };
    while !clean() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "a compiler keeps it"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(request);
    assert!(wait(compiler).success());
    let folder = format!("/proc/{}", child.id());
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("{folder}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy().into_owned();
        assert!(!target.contains("hostname"), "{target}");
        if target.starts_with("socket:") {
            sockets.push(target);
        }
    }
    sockets.dedup();
    assert_eq!(
        sockets.len(),
        1,
        "one stream, however often it was copied: {sockets:?}"
    );
    let status = fs::read_to_string(format!("{folder}/status")).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{status}");
    }
    // Nothing listens or connects, by the kernel's own account of that process.
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let rows = fs::read_to_string(format!("{folder}/net/{table}")).unwrap_or_default();
        for socket in &sockets {
            let inode = socket.trim_start_matches("socket:[").trim_end_matches(']');
            assert!(
                !rows.split_whitespace().any(|word| word == inode),
                "{table}"
            );
        }
    }
    drop(node);
    assert!(wait(child).success());
}

fn runner_ends_with_its_node() {
    let (stream, child) = spawn("child-compiler");
    let CompileReply::Compiled { artefact } = compile(stream, component()) else {
        panic!("not compiled");
    };
    assert!(wait(child).success());
    let (stream, child) = spawn("child-runner");
    let mut node = Node::new(stream);
    node.load(artefact);
    node.send(&ToRunner::Run((0..4).map(|n| run(n, &[255; 9])).collect()));
    while node.progress.is_empty() {
        assert!(node.hear());
    }
    drop(node);
    assert!(wait(child).success());
}

fn compiler_without_memory_dies_alone() {
    let (mut stream, child) = spawn("child-small-compiler");
    // It may die before it has read all: that is for the node to see as a broken stream.
    let large = component_with(&"(func)".repeat(150_000));
    let _ = hearth_runner::write_frame(&mut stream, &compile_request(large));
    let reply = hearth_runner::read_frame::<CompileReply>(&mut stream);
    assert!(
        !matches!(reply, Ok(Some(CompileReply::Compiled { .. }))),
        "96 MiB of address space are not enough for 150,000 functions"
    );
    assert!(
        !matches!(reply, Ok(Some(CompileReply::Unfit(_)))),
        "the author is not to blame"
    );
    drop(stream);
    wait(child);
}

fn compiler_without_time_is_told_by_its_signal() {
    use std::os::unix::process::ExitStatusExt;
    let (mut stream, child) = spawn("child-hasty-compiler");
    let large =
        component_with(&"(func (param i32) (result i32) (loop (br_if 0 (i32.popcnt (i32.div_s (local.get 0) (i32.const 7))))) (i32.rem_u (local.get 0) (i32.const 9)))".repeat(190_000));
    let _ = hearth_runner::write_frame(&mut stream, &compile_request(large));
    let reply = hearth_runner::read_frame::<CompileReply>(&mut stream);
    assert!(
        !matches!(reply, Ok(Some(_))),
        "a second is not enough: {reply:?}"
    );
    drop(stream);
    assert_eq!(wait(child).signal(), Some(24), "SIGXCPU");
}

//! The same components on the same inputs on this machine's processor, on Pulley and on aarch64, where
//! qemu plays the processor: equal digests and equal fuel, judged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::report::{self, Figure};
use crate::{guests, shell};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross packages keep the libraries of the target.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
const PACKAGES: [&str; 3] = [
    "qemu-user",
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];

/// Inputs of one example task: small, since an emulated processor is slow.
struct Case {
    task: &'static str,
    media_type: &'static str,
    inputs: Vec<PathBuf>,
}

pub(crate) fn run(_args: &[String]) -> Result<(), String> {
    if let Some(missing) = missing() {
        println!("\nSKIPPED: nothing was compared on aarch64.\nmissing: {missing}");
        return Ok(());
    }
    let folder = guests::build()?;
    shell::run(shell::cargo().args(["build", "--package", "hearth", "--example", "digests"]))?;
    let example = ["--example", "digests", "--no-default-features"];
    shell::run(
        shell::cargo()
            .args(["build", "--package", "hearth", "--target", TARGET])
            .args(example)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env("CC_aarch64_unknown_linux_gnu", LINKER),
    )?;

    let native = shell::target().join("debug/examples/digests");
    let foreign = shell::target().join(TARGET).join("debug/examples/digests");
    let (mut compared, mut digests, mut fuel) = (0u32, 0u32, 0u32);
    let mut seconds = [0.0; 3];
    for case in cases()? {
        let component = folder.join(format!("{}.component.wasm", case.task));
        let mut pulley = Command::new(&native);
        pulley.arg("--pulley");
        let mut emulated = Command::new(EMULATOR);
        emulated.args(["-L", LIBRARIES]).arg(&foreign);
        let mut found = Vec::new();
        for (command, seconds) in [Command::new(&native), pulley, emulated]
            .iter_mut()
            .zip(&mut seconds)
        {
            let began = std::time::Instant::now();
            found.push(digests_of(command, &component, &case)?);
            *seconds += began.elapsed().as_secs_f64();
        }
        for (index, expected) in found[0].iter().enumerate() {
            for (name, other) in [("pulley", &found[1]), ("aarch64", &found[2])] {
                compared += 1;
                let other = &other[index];
                digests += u32::from(expected.0 != other.0);
                fuel += u32::from(expected.1 != other.1);
                if expected != other {
                    println!(
                        "{}/{index}: {expected:?} here, {other:?} on {name}",
                        case.task
                    );
                }
            }
        }
    }
    report::publish(
        "aarch64",
        &[
            Figure::at_least("outcomes compared", compared.into(), "", 1.0),
            Figure::at_most("digests that differ", digests.into(), "", 0.0),
            Figure::at_most("fuel that differs", fuel.into(), "", 0.0),
            Figure::info("time here, with compiling", seconds[0], "s"),
            Figure::info("time on Pulley, with compiling", seconds[1], "s"),
            Figure::info(
                "time on aarch64 under qemu, with compiling",
                seconds[2],
                "s",
            ),
        ],
    )
}

/// Digest and fuel for each input.
fn digests_of(
    command: &mut Command,
    component: &Path,
    case: &Case,
) -> Result<Vec<(String, u64)>, String> {
    command
        .arg(component)
        .arg(case.media_type)
        .args(&case.inputs);
    let text = shell::output(command)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        match (line["digest"].as_str(), line["fuel"].as_u64()) {
            (Some(digest), Some(fuel)) => found.push((digest.to_owned(), fuel)),
            _ => return Err(format!("no digest: {line}")),
        }
    }
    if found.len() == case.inputs.len() {
        Ok(found)
    } else {
        Err(format!("{} of {} results", found.len(), case.inputs.len()))
    }
}

/// Writes the inputs that are made up, and lists those that are there.
fn cases() -> Result<Vec<Case>, String> {
    let folder = shell::target().join("aarch64-inputs");
    let fail = |error: std::io::Error| format!("inputs: {error}");
    fs::create_dir_all(&folder).map_err(fail)?;
    let write = |name: String, value: Value| {
        let path = folder.join(name);
        fs::write(&path, value.to_string()).map_err(fail)?;
        Ok::<_, String>(path)
    };
    let exponents = [127, 521, 523].map(|exponent| {
        write(
            format!("mersenne-{exponent}"),
            json!({ "exponent": exponent }),
        )
    });
    let scene = shell::root().join("tasks/render/scenes/hearth.json");
    let scene: Value = serde_json::from_slice(&fs::read(scene).map_err(fail)?)
        .map_err(|error| format!("the scene: {error}"))?;
    let tile = json!({
        "scene": scene,
        "image": { "width": 128, "height": 80, "samples": 2 },
        "tile": { "x": 64, "y": 16, "width": 16, "height": 16 },
    });
    let samples = shell::root().join("tasks/keywords/samples");
    let mut texts = Vec::new();
    for entry in fs::read_dir(samples).map_err(fail)? {
        texts.push(entry.map_err(fail)?.path());
    }
    texts.sort();
    Ok(vec![
        Case {
            task: "mersenne",
            media_type: "application/json",
            inputs: exponents.into_iter().collect::<Result<_, _>>()?,
        },
        Case {
            task: "render",
            media_type: "application/json",
            inputs: vec![write("tile".to_owned(), tile)?],
        },
        Case {
            task: "keywords",
            media_type: "text/plain",
            inputs: texts,
        },
    ])
}

/// Installs what is not there, if it may; what is still missing then, with the way to get it.
fn missing() -> Option<String> {
    let starts = |program: &str| {
        let mut command = Command::new(program);
        let command = command.arg("--version").stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_ok()
    };
    let tools = || starts(EMULATOR) && starts(LINKER) && Path::new(LIBRARIES).exists();
    if !tools() {
        // Only root may, and only Debian has it by these names: elsewhere this fails, and is told below.
        let mut install = Command::new("apt-get");
        let _ = shell::run(install.args(["install", "--yes"]).args(PACKAGES));
    }
    if !tools() {
        return Some(format!(
            "{EMULATOR} and {LINKER}; as root: apt-get install {}",
            PACKAGES.join(" ")
        ));
    }
    if let Err(error) = shell::ensure_target(TARGET) {
        return Some(error);
    }
    None
}

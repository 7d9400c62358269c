//! Inputs from files, lines or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use hearth_wire::limits;

use super::args::InputArgs;
use super::exit::{Context, Failure, Kind};

/// The inputs of a job, with a label for each that people recognise.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// How the task should read them.
    pub(crate) media_type: String,
    /// Label and bytes of each.
    pub(crate) items: Vec<(String, Vec<u8>)>,
}

/// Reads everything that the command line names.
pub(crate) fn read(args: &InputArgs) -> Result<Inputs, Failure> {
    let items = match &args.lines {
        Some(path) => lines(path)?,
        None => args.files.iter().map(file).collect::<Result<_, _>>()?,
    };
    if items.is_empty() {
        return Err(
            Failure::rejected("there are no inputs, so there is nothing to do")
                .next("name input files, or give a file with one input a line with --lines FILE"),
        );
    }
    let named = args.lines.as_ref().or_else(|| args.files.first());
    let guessed = || match named
        .and_then(|path| path.extension())
        .and_then(|extension| extension.to_str())
    {
        Some("json" | "jsonl" | "ndjson") => "application/json",
        Some("txt" | "md" | "text") => "text/plain",
        Some("csv") => "text/csv",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let media_type = args
        .media_type
        .clone()
        .unwrap_or_else(|| guessed().to_owned());
    Ok(Inputs { media_type, items })
}

fn file(path: &PathBuf) -> Result<(String, Vec<u8>), Failure> {
    let label = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let mut bytes = Vec::new();
    let reading = format!("reading input {}", path.display());
    // One byte beyond the limit is enough to know that it is broken.
    let limit = limits::INPUT_BYTES_MAX + 1;
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .context(Kind::Rejected, reading)?;
    } else {
        let file = std::fs::File::open(path).context(Kind::Rejected, &reading)?;
        file.take(limit)
            .read_to_end(&mut bytes)
            .context(Kind::Rejected, reading)?;
    }
    if bytes.len() as u64 >= limit {
        return Err(Failure::rejected(format!(
            "input {} has more than {} bytes",
            path.display(),
            limits::INPUT_BYTES_MAX
        ))
        .next("split it: one task takes one input"));
    }
    Ok((label, bytes))
}

fn lines(path: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let bytes =
        std::fs::read(path).context(Kind::Rejected, format!("reading {}", path.display()))?;
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate();
    let filled = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    Ok(filled
        .map(|(number, line)| (format!("line {}", number + 1), line.to_vec()))
        .collect())
}

//! What commands print: tables for people, JSON for programs, bars only on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::exit::Failure;

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Print JSON documents instead of tables.
    pub(crate) json: bool,
}

impl Output {
    /// A line for people; nothing in JSON mode.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            line(text.as_ref());
        }
    }

    /// A line beside the result, on standard error, in both modes.
    #[allow(clippy::print_stderr)]
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        beside_bar(|| eprintln!("{}", text.as_ref()));
    }

    /// How a command failed, on standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        if let Some(bar) = shown().take() {
            bar.finish_and_clear();
        }
        if self.json {
            self.note(failure.document().to_string());
        } else {
            self.note(format!("hearth: {failure}"));
        }
    }

    /// One JSON document on one line; nothing for people.
    pub(crate) fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string(value)
                .map_err(|error| Failure::failed(format!("making JSON: {error}")))?;
            line(&text);
        }
        Ok(())
    }

    /// Rows under a header, or the same as a JSON document.
    pub(crate) fn table(
        &self,
        header: &[&str],
        rows: Vec<Vec<String>>,
        json: &impl Serialize,
    ) -> Result<(), Failure> {
        if self.json {
            return self.document(json);
        }
        line(&table(header, rows));
        Ok(())
    }

    /// A progress bar over `total` steps: on a terminal only, and never in JSON mode.
    pub(crate) fn bar(&self, total: u64, what: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{msg} {bar:30} {pos}/{len} {elapsed} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        *shown() = Some(bar.clone());
        bar
    }
}

/// Rows under a header as text.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table.add_rows(rows);
    table.to_string()
}

/// A line on standard output. A reader that went away (`| head`) ends the program quietly.
fn line(text: &str) {
    if beside_bar(|| writeln!(std::io::stdout(), "{text}")).is_err() {
        std::process::exit(0);
    }
}

/// Standard error for logs, which come from any thread while a bar ticks.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        beside_bar(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// The bar that is on the terminal: a command shows one at a time.
fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);
    // A bar is whole whenever the lock is free, whoever panicked.
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints while the bar, which ticks by itself, is off the terminal: otherwise both end up on one line.
fn beside_bar<T>(print: impl FnOnce() -> T) -> T {
    let bar = shown().clone();
    match bar {
        Some(bar) if !bar.is_finished() => bar.suspend(print),
        _ => print(),
    }
}

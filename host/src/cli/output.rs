//! What commands print: tables for people, JSON for programs, bars only on a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use hearth_wire::text::is_control;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::exit::{Failure, Kind};

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Print JSON documents instead of tables.
    pub(crate) json: bool,
}

impl Output {
    /// A line for people; nothing in JSON mode.
    pub(crate) fn say(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        print(&lines(text.as_ref()))
    }

    /// A line beside the result, on standard error, in both modes.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let text = lines(text.as_ref());
        // Nobody is left to tell when standard error is gone, and that is no reason to end.
        let _ = beside_bar(|| writeln!(std::io::stderr(), "{text}"));
    }

    /// How a command failed, on standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        if let Some(bar) = shown().take() {
            bar.finish_and_clear();
        }
        if failure.kind() == Kind::Unread {
            return;
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
            print(&text)?;
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
        print(&table(header, rows))
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
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    table.to_string()
}

/// Text of a guest, a peer or a file's name, harmless on one line of a terminal: what would steer the
/// terminal or mislead the reader is shown by its number.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same for text of several lines. Everything for people passes through here, so that what was
/// forgotten elsewhere at least steers no terminal.
fn lines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        let text = text.replace("\r\n", "\n");
        return Cow::Owned(escape(&text, |c| matches!(c, '\n' | '\t')).into_owned());
    }
    escape(text, |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hostile = |c: char| is_control(c) && !keep(c);
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hostile(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// A line on standard output.
fn print(text: &str) -> Result<(), Failure> {
    beside_bar(|| raw(format!("{text}\n").as_bytes()))
}

/// Bytes on standard output as they are, for what is no text for people. A command has failed when
/// nobody can have read its result: a token is shown once.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(lost)
}

/// What it means that standard output cannot be written. A reader that had enough (`| head`) is no
/// error.
pub(crate) fn lost(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Failure::new(Kind::Unread, "nobody reads standard output any more");
    }
    Failure::failed(format!("standard output cannot be written: {error}")).next(
        "make room there, or send it elsewhere; what the command said is lost, what it did is done",
    )
}

/// For a process that lives on, whoever reads: the failure to print is told and that is all.
pub(crate) fn or_go_on(printed: Result<(), Failure>) {
    if let Err(failure) = printed {
        tracing::warn!("{failure}");
    }
}

/// Standard error for logs, which come from any thread while a bar ticks.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // An error would be told on standard error again, and a panic there would end a node.
        let _ = beside_bar(|| std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_shown_by_its_number() {
        assert!(matches!(plain("Zoë, 東京 👩\u{200d}🚀"), Cow::Borrowed(_)));
        assert_eq!(plain("\u{1b}[2Jgone"), "\\u{1b}[2Jgone");
        assert_eq!(plain("a\nauthors  nobody"), "a\\nauthors  nobody");
        assert_eq!(
            plain("\u{202e}txt.exe\u{2066}"),
            "\\u{202e}txt.exe\\u{2066}"
        );
        assert_eq!(lines("a\r\nb\tc\rd\u{9b}1m"), "a\nb\tc\\rd\\u{9b}1m");
    }

    #[test]
    fn cells_of_a_table_stay_on_their_line() {
        let text = table(&["NAME"], vec![vec!["ada\n\u{1b}[31meve".to_owned()]]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("ada\\n\\u{1b}[31meve"), "{text}");
    }

    #[test]
    fn only_a_reader_that_had_enough_is_no_error() {
        let of = |kind: std::io::ErrorKind| lost(kind.into()).kind();
        assert_eq!(of(std::io::ErrorKind::BrokenPipe), Kind::Unread);
        assert_eq!(of(std::io::ErrorKind::StorageFull), Kind::Failed);
    }
}

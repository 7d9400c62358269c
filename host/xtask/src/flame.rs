//! A flame graph (Gregg, "The Flame Graph", CACM 2016) of what `perf record` saw: width is CPU time,
//! a frame stands on its caller, processes and threads stand at the bottom.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 1_600.0;
const ROW: f64 = 16.0;
/// Narrower frames are left out: nobody can point at them.
const NARROWEST: f64 = 0.4;
/// Deeper frames are left out; async stacks rarely need as many.
const DEEPEST: usize = 120;

/// How often a frame was on the stack, and what it called.
#[derive(Default)]
pub(crate) struct Frame {
    samples: u64,
    calls: BTreeMap<String, Frame>,
}

impl Frame {
    /// Reads what `perf script -F comm,ip,sym` prints: a line with the thread's name, then one line a frame
    /// from the innermost on, then a blank line.
    pub(crate) fn read(script: &str) -> Self {
        let mut root = Self::default();
        let mut lines = script.lines().peekable();
        while let Some(line) = lines.next() {
            let thread = line.trim();
            if thread.is_empty() || thread.starts_with('#') {
                continue;
            }
            let mut stack = Vec::new();
            while let Some(frame) = lines.next_if(|line| !line.trim().is_empty()) {
                let name = frame.trim().split_once(' ').map_or("?", |(_, name)| name);
                stack.push(short(name));
            }
            stack.push(thread.to_owned());
            root.add(stack.into_iter().rev().take(DEEPEST));
        }
        root
    }

    fn add(&mut self, stack: impl Iterator<Item = String>) {
        self.samples += 1;
        let mut at = self;
        for name in stack {
            at = at.calls.entry(name).or_default();
            at.samples += 1;
        }
    }

    /// Samples in all.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    fn depth(&self) -> usize {
        1 + self.calls.values().map(Self::depth).max().unwrap_or(0)
    }

    /// The graph as SVG.
    pub(crate) fn svg(&self) -> String {
        let height = self.depth() as f64 * ROW;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"monospace\" font-size=\"11\">\n"
        );
        self.draw("all", self.samples.max(1), 0.0, height - ROW, &mut svg);
        svg + "</svg>\n"
    }

    fn draw(&self, name: &str, all: u64, left: f64, top: f64, svg: &mut String) {
        let width = WIDTH * self.samples as f64 / all as f64;
        if width < NARROWEST {
            return;
        }
        let share = 100.0 * self.samples as f64 / all as f64;
        // The same colour for the same name, between yellow and red.
        let hue = name.bytes().fold(7u32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        }) % 50;
        let fits = (width / 6.7) as usize;
        let label: String = name.chars().take(fits).collect();
        let (name, label) = (escape(name), escape(&label));
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<g><title>{name}: {share:.2} %</title><rect x=\"{left:.1}\" y=\"{top:.1}\" \
             width=\"{width:.1}\" height=\"{:.1}\" fill=\"hsl({hue},90%,65%)\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{label}</text></g>",
            ROW - 1.0,
            left + 2.0,
            top + ROW - 4.0
        );
        let mut left = left;
        for (name, frame) in &self.calls {
            frame.draw(name, all, left, top - ROW, svg);
            left += WIDTH * frame.samples as f64 / all as f64;
        }
    }
}

/// A symbol without the hash and the offset behind it.
fn short(symbol: &str) -> String {
    let symbol = symbol.split('+').next().unwrap_or(symbol);
    let hash = symbol.rfind("::h").filter(|at| symbol.len() - at == 19);
    hash.map_or(symbol, |at| &symbol[..at]).trim().to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_shares_of_samples() {
        let script = "worker \n\t1 inner::h0123456789abcdef\n\t2 outer\n\nworker \n\t2 outer\n\n";
        let root = Frame::read(script);
        assert_eq!(root.samples(), 2);
        let outer = &root.calls["worker"].calls["outer"];
        assert_eq!((outer.samples, outer.calls["inner"].samples), (2, 1));
        let svg = root.svg();
        assert!(
            svg.contains("outer: 100.00 %") && svg.contains("inner: 50.00 %"),
            "{svg}"
        );
    }
}

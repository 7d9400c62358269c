//! The live view: who computes what.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use crate::cli::Output;

/// What is known of a tile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tile {
    Waiting,
    Leased(u8),
    Done(u8),
}

/// A map of the picture: a letter a tile, small while it is computed, large when it is done. On a
/// terminal it is redrawn in place; elsewhere it is printed now and then.
pub(super) struct View {
    output: Output,
    columns: usize,
    tiles: Vec<Tile>,
    names: Vec<String>,
    drawn: bool,
    printed_at: usize,
}

impl View {
    pub(super) fn new(output: Output, columns: usize, tiles: usize) -> Self {
        Self {
            output,
            columns,
            tiles: vec![Tile::Waiting; tiles],
            names: Vec::new(),
            drawn: false,
            printed_at: 0,
        }
    }

    fn number(&mut self, name: &str) -> u8 {
        let known = self.names.iter().position(|known| known == name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        at.min(25) as u8
    }

    /// `name` computes tile `index`.
    pub(super) fn leased(&mut self, index: usize, name: &str) {
        let number = self.number(name);
        if let Some(tile) = self.tiles.get_mut(index)
            && !matches!(tile, Tile::Done(_))
        {
            *tile = Tile::Leased(number);
        }
        self.draw();
    }

    /// `name` computed tile `index`.
    pub(super) fn done(&mut self, index: usize, name: &str) {
        let number = self.number(name);
        if let Some(tile) = self.tiles.get_mut(index) {
            *tile = Tile::Done(number);
        }
        self.draw();
    }

    /// Tiles that are done.
    pub(super) fn finished(&self) -> usize {
        self.tiles
            .iter()
            .filter(|tile| matches!(tile, Tile::Done(_)))
            .count()
    }

    /// A line of the story, above the map.
    pub(super) fn tell(&mut self, text: &str) {
        self.erase();
        self.say(text);
        self.draw();
    }

    /// The map is decoration: that nobody can read it is told when the summary cannot be printed.
    fn say(&self, text: &str) {
        let _ = self.output.say(text);
    }

    /// Leaves the last map standing.
    pub(super) fn end(&mut self) {
        self.printed_at = 0;
        self.draw();
        self.drawn = false;
    }

    fn lines(&self) -> Vec<String> {
        let letter = |base: u8, number: u8| char::from(base + number);
        let mut lines: Vec<String> = self
            .tiles
            .chunks(self.columns)
            .map(|row| {
                row.iter().fold("    ".to_owned(), |line, tile| {
                    line + &match tile {
                        Tile::Waiting => "· ".to_owned(),
                        Tile::Leased(number) => format!("{} ", letter(b'a', *number)),
                        Tile::Done(number) => format!("{} ", letter(b'A', *number)),
                    }
                })
            })
            .collect();
        let mut shares: BTreeMap<u8, usize> = BTreeMap::new();
        for tile in &self.tiles {
            if let Tile::Done(number) = tile {
                *shares.entry(*number).or_default() += 1;
            }
        }
        let legend = self.names.iter().enumerate().map(|(at, name)| {
            let number = at.min(25) as u8;
            format!(
                "{} {name} {}",
                letter(b'A', number),
                shares.get(&number).copied().unwrap_or_default()
            )
        });
        lines.push(format!("    {}", legend.collect::<Vec<_>>().join("   ")));
        lines
    }

    fn erase(&mut self) {
        if self.drawn {
            let mut stdout = std::io::stdout();
            let height = self.lines().len();
            let _ = write!(stdout, "\x1b[{height}A\x1b[J").and_then(|()| stdout.flush());
            self.drawn = false;
        }
    }

    fn draw(&mut self) {
        if self.output.json {
            return;
        }
        if std::io::stdout().is_terminal() {
            self.erase();
            self.lines().iter().for_each(|line| self.say(line));
            self.drawn = true;
            return;
        }
        // In a pipe a map at each third is enough.
        let finished = self.finished();
        if finished >= self.printed_at {
            self.lines().iter().for_each(|line| self.say(line));
            self.printed_at = finished + self.tiles.len().div_ceil(3).max(1);
        }
    }
}

//! A text as sentences of words.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::stop_words::{self, Language};

/// One word where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// Its key in [`Text::keys`].
    pub(crate) key: u32,
    /// How it is written here, in [`Text::spellings`].
    pub(crate) spelling: u32,
    pub(crate) kind: Kind,
    /// Whether something other than space stands between it and the word before: no term spans that.
    pub(crate) apart: bool,
}

/// What a word is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Can be in a term.
    Plain,
    /// Is written as a name or an abbreviation.
    Name,
    /// Is one of a script that does not write spaces between words.
    Pair,
    /// Too common to say anything.
    Stop,
    /// Has a digit, or is too short.
    Other,
}

impl Kind {
    /// Whether a term may begin and end with it.
    pub(crate) fn says_something(self) -> bool {
        matches!(self, Self::Plain | Self::Name | Self::Pair)
    }
}

/// A text as sentences of words.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) sentences: Vec<Vec<Token>>,
    pub(crate) language: Option<Language>,
    /// Words as they are compared: NFC and lower case.
    pub(crate) keys: Names,
    /// Words as they are written, in NFC.
    pub(crate) spellings: Names,
}

/// Texts and their numbers, in the order in which they were met.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    pub(crate) fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

impl Text {
    pub(crate) fn read(raw: &str) -> Self {
        let raw: String = raw.trim_start_matches('\u{feff}').nfc().collect();
        let mut text = Self::default();
        // An empty line ends a sentence even without a full stop: headings, lists, verses.
        for paragraph in paragraphs(&raw) {
            for sentence in paragraph.unicode_sentences() {
                text.add_sentence(sentence);
            }
        }
        text.language = stop_words::guess(
            text.sentences
                .iter()
                .flatten()
                .map(|token| text.keys.name(token.key)),
        );
        text.mark_stop_words();
        text
    }

    fn add_sentence(&mut self, sentence: &str) {
        let mut tokens: Vec<Token> = Vec::new();
        let mut apart = true;
        let mut han: Option<&str> = None;
        for piece in sentence.split_word_bounds() {
            if is_han(piece) {
                // Overlapping pairs; a lone character is a word of its own only if nothing follows.
                if let Some(before) = han {
                    let pair = [before, piece].concat();
                    self.push(&mut tokens, &pair, Kind::Pair, apart);
                    apart = false;
                }
                han = Some(piece);
                continue;
            }
            if han.take().is_some() {
                apart = true;
            }
            if piece.chars().any(char::is_alphanumeric) {
                let kind = kind_of(piece, tokens.is_empty());
                self.push(&mut tokens, piece, kind, apart);
                apart = false;
            } else if !piece.chars().all(char::is_whitespace) && !is_joiner(piece) {
                apart = true;
            }
        }
        if !tokens.is_empty() {
            self.sentences.push(tokens);
        }
    }

    fn push(&mut self, tokens: &mut Vec<Token>, word: &str, kind: Kind, apart: bool) {
        let word = bare(word);
        let key: String = word.to_lowercase().replace('’', "'").nfc().collect();
        let token = Token {
            key: self.keys.number(&key),
            spelling: self.spellings.number(word),
            kind,
            apart,
        };
        tokens.push(token);
    }

    fn mark_stop_words(&mut self) {
        let stops: Vec<bool> = (0..self.keys.len() as u32)
            .map(|key| stop_words::is_stop(self.keys.name(key), self.language))
            .collect();
        for token in self.sentences.iter_mut().flatten() {
            if stops[token.key as usize] {
                token.kind = Kind::Stop;
            }
        }
    }
}

/// Parts of a text between empty lines.
fn paragraphs(text: &str) -> impl Iterator<Item = String> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        let mut paragraph = lines.next()?.to_owned();
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            // A line that is wrapped goes on; Unicode would end the sentence at its break.
            paragraph.push(' ');
            paragraph.push_str(line);
        }
        Some(paragraph)
    })
}

/// Without what an apostrophe joins to a word: "the keeper's lamp" is about a keeper, « l'eau » about water.
fn bare(word: &str) -> &str {
    let word = word
        .strip_suffix("'s")
        .or_else(|| word.strip_suffix("’s"))
        .unwrap_or(word);
    let mut letters = word.chars();
    let elided = letters
        .next()
        .is_some_and(|letter| "cdjlmnstCDJLMNST".contains(letter))
        && letters
            .next()
            .is_some_and(|mark| matches!(mark, '\'' | '’'));
    let rest = letters.as_str();
    // "d'un" stays whole, as the list of stop words has it; "t's" is nothing.
    if elided && rest.chars().count() > 3 {
        rest
    } else {
        word
    }
}

fn kind_of(word: &str, first: bool) -> Kind {
    let letters = word.chars().filter(|letter| letter.is_alphabetic()).count();
    if word.chars().any(char::is_numeric) || letters < 2 {
        return Kind::Other;
    }
    let mut upper = word.chars().filter(|letter| letter.is_uppercase());
    let starts = word.chars().next().is_some_and(char::is_uppercase);
    let capitals = upper.by_ref().count();
    let name = (starts && !first) || (capitals > 1 && capitals == letters);
    if name { Kind::Name } else { Kind::Plain }
}

/// Characters between which no word boundary can be found without a dictionary.
fn is_han(piece: &str) -> bool {
    let mut characters = piece.chars();
    let han = |c| {
        matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{323af}' | '々')
    };
    characters.next().is_some_and(han) && characters.all(han)
}

/// What joins the words of a term.
fn is_joiner(piece: &str) -> bool {
    matches!(
        piece,
        "-" | "\u{2010}" | "\u{2011}" | "\u{ad}" | "\u{200c}" | "\u{200d}"
    )
}

//! Analysis: the keywords of a text.
//!
//! Input: a text in UTF-8, of any language. Output: JSON, see [`Output`]: the terms that say most
//! about the text, best first, and counts of all its words, from which a client that has many texts can
//! fold document frequencies.
//!
//! The method is YAKE's (Campos and others, 2020), which needs no other texts: a word matters if it is
//! frequent, comes early, stands in many sentences, is written like a name and keeps few different
//! neighbours. Terms of several words are made of words that follow each other. Words are those of
//! Unicode's segmentation, compared in NFC and lower case; Han characters, which stand in no words that a
//! program could see, are taken in pairs.

mod score;
mod stop_words;
mod terms;
mod text;

use std::collections::BTreeMap;

use hearth::Error;
use serde::{Deserialize, Serialize};

pub use stop_words::Language;

/// Terms in the output.
pub const KEYWORDS_MAX: usize = 30;
/// Words whose counts are in the output: the most frequent ones.
pub const WORDS_MAX: usize = 1_000;
/// Bytes of a text.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The language whose stop words occur most, if any do.
    pub language: Option<Language>,
    /// Sentences in the text.
    pub sentences: u64,
    /// Words in the text, stop words and numbers among them.
    pub words: u64,
    /// The terms that say most about the text, best first.
    pub keywords: Vec<Keyword>,
    /// The most frequent words that are no stop words and no numbers, with how often they occur.
    pub counts: BTreeMap<String, u64>,
}

/// A term that says much about the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyword {
    /// The term, as it is written most often.
    pub term: String,
    /// How much it says, in thousandths of what the best term says.
    pub score: u32,
    /// How often it occurs.
    pub count: u64,
}

/// Finds the keywords of a text. A text without any word has none.
///
/// # Errors
///
/// [`Error::InvalidInput`] if the text is not UTF-8 or above [`TEXT_BYTES_MAX`].
#[hearth::task]
pub fn run(text: &str) -> Result<Output, Error> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid_input(format_args!(
            "the text has {} bytes, at most {TEXT_BYTES_MAX} are read: cut it",
            text.len()
        )));
    }
    hearth::progress(0, 3);
    let text = text::Text::read(text);
    hearth::progress(1, 3);
    let words = score::Words::new(&text);
    hearth::progress(2, 3);
    let keywords = terms::best(&text, &words, KEYWORDS_MAX);
    hearth::progress(3, 3);
    Ok(Output {
        language: text.language,
        sentences: text.sentences.len() as u64,
        words: text
            .sentences
            .iter()
            .map(|sentence| sentence.len() as u64)
            .sum(),
        keywords,
        counts: words.counts(&text, WORDS_MAX),
    })
}

#[cfg(test)]
mod tests;

//! How much each word says.

use std::collections::{BTreeMap, BTreeSet};

use crate::text::{Kind, Text};

/// How much each word of a text says, by its key.
#[derive(Debug)]
pub(crate) struct Words {
    /// How often it occurs.
    pub(crate) count: Vec<u64>,
    /// Smaller is better, as in YAKE.
    pub(crate) score: Vec<f64>,
    /// Occurrences that can be in a term.
    useful: Vec<u64>,
}

#[derive(Debug, Default, Clone)]
struct Facts {
    count: u64,
    useful: u64,
    names: u64,
    /// Sentences in which it stands, by number.
    sentences: Vec<u32>,
    left: Neighbours,
    right: Neighbours,
}

#[derive(Debug, Default, Clone)]
struct Neighbours {
    different: BTreeSet<u32>,
    all: u64,
}

impl Neighbours {
    fn add(&mut self, key: u32) {
        self.different.insert(key);
        self.all += 1;
    }

    fn variety(&self) -> f64 {
        if self.all == 0 {
            0.0
        } else {
            self.different.len() as f64 / self.all as f64
        }
    }
}

impl Words {
    pub(crate) fn new(text: &Text) -> Self {
        let mut facts = vec![Facts::default(); text.keys.len()];
        for (number, sentence) in (0u32..).zip(&text.sentences) {
            for (index, token) in sentence.iter().enumerate() {
                let fact = &mut facts[token.key as usize];
                fact.count += 1;
                fact.useful += u64::from(token.kind.says_something());
                fact.names += u64::from(token.kind == Kind::Name);
                if fact.sentences.last() != Some(&number) {
                    fact.sentences.push(number);
                }
                if index > 0 && !token.apart {
                    let before = sentence[index - 1].key;
                    fact.left.add(before);
                    facts[before as usize].right.add(token.key);
                }
            }
        }

        let counts: Vec<f64> = facts
            .iter()
            .filter(|fact| fact.useful > 0)
            .map(|fact| fact.count as f64)
            .collect();
        let number = counts.len() as f64;
        let mean = if counts.is_empty() {
            1.0
        } else {
            counts.iter().sum::<f64>() / number
        };
        let spread = counts
            .iter()
            .map(|count| (count - mean) * (count - mean))
            .sum::<f64>();
        let spread = if counts.is_empty() {
            0.0
        } else {
            (spread / number).sqrt()
        };
        let most = facts.iter().map(|fact| fact.count).max().unwrap_or(1) as f64;
        let sentences = text.sentences.len() as f64;
        let score = facts
            .iter()
            .map(|fact| score(fact, mean + spread, most, sentences))
            .collect();
        Self {
            count: facts.iter().map(|fact| fact.count).collect(),
            useful: facts.iter().map(|fact| fact.useful).collect(),
            score,
        }
    }

    /// The `limit` most frequent words that can be in a term, equal ones by the alphabet.
    pub(crate) fn counts(&self, text: &Text, limit: usize) -> BTreeMap<String, u64> {
        let mut words: Vec<(u64, &str)> = (0..text.keys.len() as u32)
            .filter(|key| self.useful[*key as usize] > 0)
            .map(|key| (self.count[key as usize], text.keys.name(key)))
            .collect();
        words.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        words
            .into_iter()
            .take(limit)
            .map(|(count, word)| (word.to_owned(), count))
            .collect()
    }
}

/// YAKE's score of a word: `related · early / (name + frequent/related + spread/related)`.
fn score(fact: &Facts, usual: f64, most: f64, sentences: f64) -> f64 {
    let count = fact.count as f64;
    let name = fact.names as f64 / (1.0 + libm::log(count));
    let frequent = count / usual;
    let (Some(middle), standing) = (median(&fact.sentences), fact.sentences.len() as f64) else {
        return f64::INFINITY;
    };
    let early = libm::log(libm::log(3.0 + middle) + 1.0);
    let different = standing / sentences;
    let related = 1.0 + (fact.left.variety() + fact.right.variety()) * (count / most);
    related * early / (name + frequent / related + different / related)
}

fn median(sorted: &[u32]) -> Option<f64> {
    let upper = f64::from(*sorted.get(sorted.len() / 2)?);
    let lower = f64::from(*sorted.get((sorted.len() - 1) / 2)?);
    Some((lower + upper) / 2.0)
}

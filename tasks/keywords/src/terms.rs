//! Terms of one to three words, and which of them are best.

use std::collections::{BTreeMap, BTreeSet};

use crate::Keyword;
use crate::score::Words;
use crate::text::{Kind, Text, Token};

/// Words in a term.
const LENGTH_MAX: usize = 3;

#[derive(Debug, Default)]
struct Candidate {
    count: u64,
    /// How it is written, and how often so.
    spellings: BTreeMap<Vec<u32>, u64>,
}

/// The best terms, best first.
pub(crate) fn best(text: &Text, words: &Words, limit: usize) -> Vec<Keyword> {
    let candidates = candidates(text);
    let mut scored: Vec<(f64, &Vec<u32>, &Candidate)> = candidates
        .iter()
        .map(|(keys, candidate)| (score(keys, candidate, words), keys, candidate))
        .collect();
    // By the keys as well: they were numbered in the order of the text, so the order is total.
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));

    let Some(&(first, ..)) = scored.first() else {
        return Vec::new();
    };
    let mut kept: Vec<(&Vec<u32>, Keyword)> = Vec::new();
    for (score, keys, candidate) in scored {
        if kept.len() == limit {
            break;
        }
        // A part of a better term, or one with such a part, says nothing new.
        if kept.iter().any(|(other, _)| overlaps(keys, other)) {
            continue;
        }
        let keyword = Keyword {
            term: spelling(text, candidate),
            score: thousandths(first, score),
            count: candidate.count,
        };
        kept.push((keys, keyword));
    }
    kept.into_iter().map(|(_, keyword)| keyword).collect()
}

fn candidates(text: &Text) -> BTreeMap<Vec<u32>, Candidate> {
    let mut candidates: BTreeMap<Vec<u32>, Candidate> = BTreeMap::new();
    let mut add = |tokens: &[Token]| {
        let candidate = candidates
            .entry(tokens.iter().map(|token| token.key).collect())
            .or_default();
        candidate.count += 1;
        let spelling = tokens.iter().map(|token| token.spelling).collect();
        *candidate.spellings.entry(spelling).or_default() += 1;
    };
    for sentence in &text.sentences {
        for start in 0..sentence.len() {
            for length in 1..=LENGTH_MAX.min(sentence.len() - start) {
                let tokens = &sentence[start..start + length];
                let joined = tokens.iter().skip(1).all(|token| !token.apart);
                // Pairs of Han characters overlap: they are terms as they are.
                let whole = tokens.iter().all(|token| token.kind.says_something())
                    && (length == 1 || tokens.iter().all(|token| token.kind != Kind::Pair));
                if joined && whole {
                    add(tokens);
                }
            }
        }
    }
    // A term of several words that is there once is most often no term but a sentence.
    candidates.retain(|keys, candidate| keys.len() == 1 || candidate.count > 1);
    drop_halves(&mut candidates);
    candidates
}

/// A word that is half of the time part of one term is that term: no "log" beside "log book".
fn drop_halves(candidates: &mut BTreeMap<Vec<u32>, Candidate>) {
    let mut most: BTreeMap<u32, u64> = BTreeMap::new();
    for (keys, candidate) in candidates.iter().filter(|(keys, _)| keys.len() > 1) {
        for key in keys {
            let most = most.entry(*key).or_default();
            *most = candidate.count.max(*most);
        }
    }
    candidates.retain(|keys, candidate| match keys.as_slice() {
        [key] => most.get(key).is_none_or(|most| 2 * most < candidate.count),
        _ => true,
    });
}

/// Smaller is better: the product of the words' scores over their sum and the term's count.
fn score(keys: &[u32], candidate: &Candidate, words: &Words) -> f64 {
    let scores = || keys.iter().map(|key| words.score[*key as usize]);
    let product: f64 = scores().product();
    let sum: f64 = scores().sum();
    product / (candidate.count as f64 * (1.0 + sum))
}

/// From the best score, 1000, downwards; by the logarithm, because scores are products.
fn thousandths(best: f64, score: f64) -> u32 {
    let fall = libm::log(score / best);
    // Each e-fold costs a tenth of what is left.
    let part = libm::exp(-0.1 * fall);
    if part.is_finite() {
        (part * 1000.0 + 0.5) as u32
    } else {
        0
    }
}

fn overlaps(a: &[u32], b: &[u32]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    if short.len() == 1 {
        return long.contains(&short[0]);
    }
    let long: BTreeSet<u32> = long.iter().copied().collect();
    short.iter().filter(|key| long.contains(key)).count() > 1
}

fn spelling(text: &Text, candidate: &Candidate) -> String {
    // The most frequent; of equal ones the first, which is the one that came first in the text.
    let mut best: Option<(&Vec<u32>, u64)> = None;
    for (spelling, count) in &candidate.spellings {
        if best.is_none_or(|(_, most)| *count > most) {
            best = Some((spelling, *count));
        }
    }
    let words: Vec<&str> = best
        .iter()
        .flat_map(|(spelling, _)| spelling.iter().map(|number| text.spellings.name(*number)))
        .collect();
    words.join(" ")
}

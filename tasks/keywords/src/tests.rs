#![allow(clippy::unwrap_used)]

use hearth::testing::Host;
use hearth::{Error, Payload};

use super::*;

const SAMPLES: [(&str, Option<Language>, &[&str]); 5] = [
    (
        include_str!("../samples/lighthouse.en.txt"),
        Some(Language::English),
        &["lamp", "Fresnel lens", "keeper", "log book", "fog signal"],
    ),
    (
        include_str!("../samples/backofen.de.txt"),
        Some(Language::German),
        &["Ofen", "Sauerteig", "Backhaus", "Kruste"],
    ),
    (
        include_str!("../samples/huerto.es.txt"),
        Some(Language::Spanish),
        &["agua", "huerto", "acequia", "vela"],
    ),
    (
        include_str!("../samples/samovar.ru.txt"),
        Some(Language::Russian),
        &["самовар", "угли", "поезд"],
    ),
    (
        include_str!("../samples/瓷窑.zh.txt"),
        None,
        &["龙窑", "瓷器", "窑工"],
    ),
];

fn terms(output: &Output) -> Vec<&str> {
    output
        .keywords
        .iter()
        .map(|keyword| keyword.term.as_str())
        .collect()
}

#[test]
fn the_samples_are_about_what_they_are_about() {
    for (text, language, about) in SAMPLES {
        let output = run(text).unwrap();
        assert_eq!(output.language, language);
        let found = terms(&output);
        for term in about {
            let place = found.iter().position(|other| other == term);
            assert!(place.is_some_and(|place| place < 15), "{term}: {found:?}");
        }
        assert_eq!(output.keywords[0].score, 1000);
        assert!(output.keywords.is_sorted_by(|a, b| a.score >= b.score));
        assert!(output.keywords.len() <= KEYWORDS_MAX);
    }
}

#[test]
fn terms_are_no_stop_words_and_do_not_repeat_each_other() {
    let output = run(SAMPLES[0].0).unwrap();
    for keyword in &output.keywords {
        let words: Vec<&str> = keyword.term.split(' ').collect();
        assert!(words.iter().all(|word| !["the", "a", "is"].contains(word)));
    }
    let found = terms(&output);
    assert!(
        found.contains(&"Fresnel lens") && !found.contains(&"Fresnel"),
        "{found:?}"
    );
}

#[test]
fn composed_and_decomposed_letters_are_the_same_word() {
    // "Café" with U+00E9 and with a combining accent, and in capitals.
    let output = run("The caf\u{e9} opens. A cafe\u{301} closes. CAFE\u{301}!").unwrap();
    assert_eq!(output.counts.get("caf\u{e9}"), Some(&3));
    assert_eq!(output.counts.len(), 3);
    // A final sigma is another letter only in writing.
    let output = run("Ο δρόμος είναι μακρύς. ΔΡΌΜΟΣ").unwrap();
    assert_eq!(output.counts.get("δρόμος"), Some(&2), "{:?}", output.counts);
}

#[test]
fn words_are_those_of_unicode() {
    let output =
        run("naïve co-operation, l’océan d'Alice; rock'n'roll 3.14 e-mail 𝒜𝒷 👩‍🚀 don't").unwrap();
    let words: Vec<&str> = output.counts.keys().map(String::as_str).collect();
    for word in [
        "naïve",
        "operation",
        "océan",
        "alice",
        "rock'n'roll",
        "mail",
    ] {
        assert!(words.contains(&word), "{word}: {words:?}");
    }
    assert!(
        !words
            .iter()
            .any(|word| word.contains('👩') || word.contains('3'))
    );
}

#[test]
fn a_term_does_not_reach_over_a_mark() {
    let text = "Red lamp, green door. Red lamp, green door. Red lamp, green door.";
    let output = run(text).unwrap();
    let found = terms(&output);
    assert!(
        found.iter().all(|term| !term.contains("lamp green")),
        "{found:?}"
    );
    assert!(
        found.contains(&"Red lamp") || found.contains(&"green door"),
        "{found:?}"
    );
}

#[test]
fn texts_without_words_have_no_keywords() {
    for text in ["", "   \n\n ", "... !? 42 3.14", "\u{feff}", "the and of"] {
        let output = run(text).unwrap();
        assert_eq!(output.keywords, [], "{text:?}");
        assert!(output.counts.is_empty());
    }
}

#[test]
fn what_is_not_text_is_refused() {
    let refused = run_payload(Payload::bytes([0x66, 0xff, 0x66]));
    assert!(matches!(refused, Err(Error::InvalidInput(_))));
    let large = "word ".repeat(TEXT_BYTES_MAX / 5 + 1);
    assert!(matches!(run(&large), Err(Error::InvalidInput(_))));
}

#[test]
fn the_output_is_bounded_and_always_the_same() {
    let mut text = String::new();
    for number in 0..5_000u32 {
        let letter = |shift: u32| char::from(b'a' + ((number >> shift) % 16) as u8);
        text.extend([letter(0), letter(4), letter(8), letter(2), ' ']);
    }
    let mut host = Host::new();
    let first = host
        .run(|| run_payload(Payload::bytes(text.clone())))
        .unwrap();
    assert_eq!(host.progress().last(), Some(&(3, Some(3))));
    assert_eq!(first.media_type, "application/json");
    assert_eq!(run_payload(Payload::bytes(text)), Ok(first.clone()));
    let output: Output = first.to_json().unwrap();
    assert_eq!(
        (output.keywords.len(), output.counts.len()),
        (KEYWORDS_MAX, WORDS_MAX)
    );
    assert_eq!(output.words, 5_000);
}

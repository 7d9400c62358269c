//! Text that people read: what may stand in a name, and what must not reach a terminal as it is.

/// Whether a character changes how the text around it is shown: terminals obey control characters, and
/// format characters hide text or turn its order round.
///
/// These are Unicode's categories Cc, Zl, Zp and Cf, but for the two joiners (U+200C, U+200D): Persian
/// and emoji are written with them, and they move nothing.
pub const fn is_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Whether a text is fit to be a name: 1 to `max` bytes, none of which play with the reader.
pub fn is_name(text: &str, max: usize) -> bool {
    !text.is_empty() && is_label(text, max)
}

/// Whether a text is fit to be a name that may be left out.
pub fn is_label(text: &str, max: usize) -> bool {
    text.len() <= max && !text.contains(is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_letters_of_any_script_and_nothing_that_plays_with_the_reader() {
        for name in [
            "Ada",
            "Zoë 2",
            "محمد",
            "می\u{200c}خواهم",
            "👩\u{200d}🚀",
            "a",
        ] {
            assert!(is_name(name, 64), "{name}");
        }
        assert!(is_label("", 64) && !is_name("", 64));
        assert!(is_name("abcd", 4) && !is_name("abcde", 4));
        for c in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(!is_name(&format!("Ada{c}Grace"), 64), "{c:?}");
        }
    }

    /// The standard library's own category and ours must not drift apart.
    #[test]
    fn every_control_character_of_the_standard_library_is_one() {
        assert!(('\0'..=char::MAX).all(|c| !c.is_control() || is_control(c)));
    }
}

//! Texts that people read.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a character is invisible: a control, a line or paragraph separator, or a format character such as a
/// bidirectional override. It could start a new line in an e-mail, or make a text look like another. Zero-width joiners
/// (U+200C, U+200D) are allowed: some languages need them.
pub fn is_unseen(character: char) -> bool {
    let category = character.general_category();
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || category == GeneralCategory::Format && !matches!(character, '\u{200c}' | '\u{200d}')
}

/// Whether a text shows nothing at all, as a name must not: all of it is space, unseen, or drawn as nothing.
pub fn is_blank(text: &str) -> bool {
    let shows_nothing = |character: char| {
        character.is_whitespace() || is_unseen(character) || is_drawn_as_nothing(character)
    };
    text.chars().all(shows_nothing)
}

/// The characters of Unicode 17.0's property Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and the Braille
/// pattern without dots.
fn is_drawn_as_nothing(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_nothing_is_blank() {
        for blank in [
            "",
            " ",
            "\u{3164}",
            "\u{2800}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{34f}",
            "\u{fe0f}",
            "\u{180b}",
            "\u{17b4}",
            "\u{e0100}",
            "\u{200d} \u{200c}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for seen in ["a", "\u{3164}a", "⠿", "❤\u{fe0f}", "한글", "葛\u{e0100}"] {
            assert!(!is_blank(seen), "{seen:?}");
        }
    }

    #[test]
    fn what_is_seen_is_told_from_what_is_not() {
        for unseen in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(is_unseen(unseen), "{unseen:?}");
        }
        for seen in [
            'a', ' ', 'É', 'ש', 'ع', '漢', '\u{301}', '\u{200c}', '\u{200d}', '👩',
        ] {
            assert!(!is_unseen(seen), "{seen:?}");
        }
    }
}

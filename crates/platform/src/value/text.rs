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

#[cfg(test)]
mod tests {
    use super::*;

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

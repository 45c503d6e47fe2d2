//! VAT numbers: syntax, and for France the key. Whether a number is registered is not checked.

use super::account::Rule;

/// One place of a number: `9` a digit, `A` a capital letter, `X` either, `+`, `*` as Ireland allows; anything else
/// stands for itself.
type Pattern = &'static str;

/// The Union's formats (and Northern Ireland's) after the country's prefix.
static FORMATS: &[(&str, &[Pattern])] = &[
    ("AT", &["U99999999"]),
    ("BE", &["0999999999", "1999999999"]),
    ("BG", &["999999999", "9999999999"]),
    ("CY", &["99999999A"]),
    ("CZ", &["99999999", "999999999", "9999999999"]),
    ("DE", &["999999999"]),
    ("DK", &["99999999"]),
    ("EE", &["999999999"]),
    ("EL", &["999999999"]),
    ("ES", &["X9999999X"]),
    ("FI", &["99999999"]),
    ("FR", &["XX999999999"]),
    ("HR", &["99999999999"]),
    ("HU", &["99999999"]),
    ("IE", &["9+99999A", "9999999A", "9999999AA"]),
    ("IT", &["99999999999"]),
    ("LT", &["999999999", "999999999999"]),
    ("LU", &["99999999"]),
    ("LV", &["99999999999"]),
    ("MT", &["99999999"]),
    ("NL", &["999999999B99"]),
    ("PL", &["9999999999"]),
    ("PT", &["999999999"]),
    (
        "RO",
        &[
            "99",
            "999",
            "9999",
            "99999",
            "999999",
            "9999999",
            "99999999",
            "999999999",
            "9999999999",
        ],
    ),
    ("SE", &["999999999999"]),
    ("SI", &["99999999"]),
    ("SK", &["9999999999"]),
    ("XI", &["999999999", "999999999999", "GD999", "HA999"]),
];

/// A VAT number, or an empty text for none. One that begins with a prefix of the Union must have that country's form;
/// any other is taken as it is: 4 to 20 capitals and digits.
pub fn check_vat_number(text: &str) -> Result<String, Rule> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let plain = (4..=20).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"+*".contains(&byte)
        });
    if !plain {
        return Err(Rule(
            "must be a VAT number such as \"FR40303265045\": 4 to 20 capitals and digits, without spaces",
        ));
    }
    let (prefix, number) = text.split_at(2);
    let good = match FORMATS.iter().find(|(country, _)| *country == prefix) {
        None => true,
        Some((_, patterns)) => patterns.iter().any(|pattern| fits(number, pattern)),
    };
    if !good {
        return Err(Rule("must have the form of its country's VAT numbers"));
    }
    if prefix == "FR" && !french_key_fits(number) {
        return Err(Rule("has a key that does not fit its SIREN"));
    }
    Ok(text.to_owned())
}

/// A SIREN: nine digits whose Luhn sum is a multiple of ten.
pub fn is_siren(text: &str) -> bool {
    text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_digit()) && luhn(text)
}

fn fits(number: &str, pattern: Pattern) -> bool {
    number.len() == pattern.len()
        && number
            .bytes()
            .zip(pattern.bytes())
            .all(|(byte, place)| match place {
                b'9' => byte.is_ascii_digit(),
                b'A' => byte.is_ascii_uppercase(),
                b'X' => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
                b'+' => byte.is_ascii_uppercase() || b"+*".contains(&byte),
                place => byte == place,
            })
}

/// The key of a French number is 12 + 3 × SIREN, mod 97, in two digits. Keys with letters (never O or I)
/// exist and carry no public checksum.
fn french_key_fits(number: &str) -> bool {
    let (key, siren) = number.split_at(2);
    let Ok(siren_number) = siren.parse::<u64>() else {
        return false;
    };
    match key.parse::<u64>() {
        Ok(key) => key == (12 + 3 * siren_number) % 97,
        Err(_) => !key.contains(['O', 'I']),
    }
}

fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            match (place % 2, digit) {
                (0, digit) => digit,
                (_, digit) if digit > 4 => 2 * digit - 9,
                (_, digit) => 2 * digit,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_forms() {
        for good in [
            "",
            "FR40303265045",
            "FRXX999999999",
            "DE123456789",
            "ATU12345678",
            "BE0123456789",
            "NL123456789B01",
            "IE1A23456B",
            "IE1234567FA",
            "EL123456789",
            "ESX1234567X",
            "RO12",
            "XIGD123",
            "GB123456789",
            "CHE123456789",
        ] {
            assert_eq!(check_vat_number(good).as_deref(), Ok(good));
        }
        for bad in [
            "FR",
            "FR41303265045",
            "FR4030326504",
            "FROI303265045",
            "fr40303265045",
            "FR 40303265045",
            "DE12345678",
            "AT12345678",
            "BE2123456789",
            "NL123456789A01",
            "IT123",
        ] {
            assert!(check_vat_number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sirens() {
        assert!(is_siren("732829320"));
        assert!(!is_siren("732829321"));
        for bad in ["73282932", "0000000000", "00000000:", "73282932A"] {
            assert!(!is_siren(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn one_last_digit_makes_a_siren(start in "[0-9]{8}") {
            let fitting = (0..10).filter(|digit| is_siren(&format!("{start}{digit}"))).count();
            prop_assert_eq!(fitting, 1);
        }

        /// Of the hundred keys that a SIREN may be written with, one fits.
        #[test]
        fn one_french_key_fits(siren in 0_u32..1_000_000_000) {
            let fitting = (0..100).filter(|key| check_vat_number(&format!("FR{key:02}{siren:09}")).is_ok()).count();
            prop_assert_eq!(fitting, 1);
        }
    }
}

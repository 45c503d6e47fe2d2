//! Postal addresses and countries.

use super::account::{Rule, check_text};

/// ISO 3166-1 alpha-2 codes, in order.
static COUNTRIES: &[&str] = &[
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ",
    "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS",
    "BT", "BV", "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN",
    "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE",
    "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF",
    "GG", "GH", "GI", "GL", "GM", "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM",
    "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM",
    "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN", "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC",
    "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK",
    "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU", "MV", "MW", "MX", "MY", "MZ", "NA",
    "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG",
    "PH", "PK", "PL", "PM", "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW",
    "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS",
    "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO",
    "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE", "VG", "VI",
    "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZM", "ZW",
];

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Street lines: 1 to 4.
    pub lines: Vec<String>,
    /// Postal code; may be empty where a country has none.
    pub postal_code: String,
    pub city: String,
    /// ISO 3166-1 alpha-2 country, in capitals.
    pub country: String,
}

/// Street lines: 1 to 4, each 1 to 100 characters.
pub fn check_lines(lines: &[String]) -> Result<Vec<String>, Rule> {
    let rule = Rule(
        "must be 1 to 4 lines, each 1 to 100 characters, with no control or format character and no space around it",
    );
    if !(1..=4).contains(&lines.len()) {
        return Err(rule);
    }
    lines
        .iter()
        .map(|line| check_text(line, 100).ok_or(rule))
        .collect()
}

/// A postal code: 1 to 20 characters.
pub fn check_postal_code(text: &str) -> Result<String, Rule> {
    check_text(text, 20).ok_or(Rule(
        "must be 1 to 20 characters, with no control or format character and no space around it",
    ))
}

/// A city: 1 to 100 characters.
pub fn check_city(text: &str) -> Result<String, Rule> {
    check_text(text, 100).ok_or(Rule(
        "must be 1 to 100 characters, with no control or format character and no space around it",
    ))
}

/// A country.
pub fn check_country(text: &str) -> Result<String, Rule> {
    match COUNTRIES.binary_search(&text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Rule(
            "must be an ISO 3166-1 alpha-2 country in capitals, such as \"FR\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_ordered_and_found() {
        assert_eq!(COUNTRIES.len(), 249);
        assert!(COUNTRIES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(check_country("FR").is_ok());
        for bad in ["", "fr", "XX", "FRA", "UK"] {
            assert!(check_country(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_have_their_lengths() {
        for (check, most) in [
            (check_postal_code as fn(&str) -> Result<String, Rule>, 20),
            (check_city, 100),
            (
                |line| check_lines(&[line.to_owned()]).map(|lines| lines.concat()),
                100,
            ),
        ] {
            for length in [1, most] {
                let text = "é".repeat(length);
                assert_eq!(check(&text), Ok(text));
            }
            for bad in ["", " x", "a\u{7}b", &"é".repeat(most + 1)] {
                assert!(check(bad).is_err(), "{bad:?}");
            }
        }
        for (count, good) in [(0, false), (1, true), (4, true), (5, false)] {
            let lines = vec!["1 rue de la Paix".to_owned(); count];
            assert_eq!(check_lines(&lines).ok(), good.then_some(lines));
        }
    }
}

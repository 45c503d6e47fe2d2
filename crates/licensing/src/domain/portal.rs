//! The portal: how many sign-ins may fail, and what can be installed.

use core::net::{IpAddr, Ipv6Addr};

use crate::domain::device::Platform;

/// The counters of failed sign-ins. Callers whose token is bound to an account have counters of their own, except for
/// the logins of that account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Throttle {
    /// By activation e-mail, whether it exists or not.
    Login,
    /// By client address.
    Client,
    /// By a share of all logins: they are spread over [`SHARES`] counters, so that no row is touched by every sign-in and
    /// an attack on many logins locks out a part of the users at most.
    Overall,
}

pub(crate) const SHARES: u8 = 16;

/// When and for how long a throttle closes. Times are milliseconds of machine time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The number of failures in a window at which it closes.
    pub(crate) failures: i32,
    /// For how long it then closes; every failure after that doubles it.
    pub(crate) first_ms: i64,
    pub(crate) longest_ms: i64,
    /// How long a window lasts from its first failure; then the count begins again.
    pub(crate) window_ms: i64,
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

impl Throttle {
    /// Its name in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Client => "CLIENT",
            Self::Overall => "OVERALL",
        }
    }

    pub(crate) fn policy(self) -> Policy {
        let window_ms = 15 * MINUTE;
        match self {
            Self::Login => Policy {
                failures: 5,
                first_ms: MINUTE,
                longest_ms: 15 * MINUTE,
                window_ms,
            },
            // An office behind one address: many users who mistype now and then.
            Self::Client => Policy {
                failures: 50,
                first_ms: MINUTE,
                longest_ms: 15 * MINUTE,
                window_ms,
            },
            Self::Overall => Policy {
                failures: 300,
                first_ms: 5 * SECOND,
                longest_ms: MINUTE,
                window_ms,
            },
        }
    }
}

/// The key of a client's counter: its IPv4 address, or the /64 network of its IPv6 address, which is what one customer of an
/// access provider has. Empty for no address. The error is the rule that the address breaks.
pub(crate) fn client(address: &str) -> Result<String, &'static str> {
    if address.is_empty() {
        return Ok(String::new());
    }
    let address: IpAddr = address
        .parse()
        .map_err(|_| "must be an IPv4 or IPv6 address")?;
    Ok(match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from(u128::from(address) >> 64 << 64);
            format!("{network}/64")
        }
    })
}

/// The language of the installation instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// Also where the account's language is not known yet.
    French,
    English,
}

impl Language {
    pub(crate) fn of(locale: &str) -> Self {
        match locale.split('-').next() {
            Some("en") => Self::English,
            _ => Self::French,
        }
    }
}

/// What a user downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installer {
    pub(crate) platform: Platform,
    pub(crate) display_name: &'static str,
    /// Path below the installation's download address.
    pub(crate) path: &'static str,
    /// What to do, one step a line.
    pub(crate) instructions: &'static str,
}

/// The installer of one platform.
pub(crate) fn installer(platform: Platform, language: Language) -> Installer {
    let (display_name, path) = match platform {
        Platform::Windows => ("Windows (64-bit)", "windows"),
        Platform::Macos => ("macOS", "macos"),
        Platform::Ipados => ("iPadOS", "ipados"),
        Platform::AndroidTablet => ("Android (tablet)", "android-tablet"),
        Platform::Ios => ("iOS", "ios"),
        Platform::AndroidPhone => ("Android (smartphone)", "android-phone"),
    };
    Installer {
        platform,
        display_name,
        path,
        instructions: match language {
            Language::French => in_french(platform),
            Language::English => in_english(platform),
        },
    }
}

fn in_french(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => {
            "Téléchargez le programme d'installation.\n\
             Ouvrez-le et acceptez que Windows apporte des modifications à l'appareil.\n\
             Attendez la fin de l'installation, puis ouvrez une application.\n\
             Connectez-vous avec l'adresse e-mail d'activation et le mot de passe."
        }
        Platform::Macos => {
            "Téléchargez le paquet d'installation.\n\
             Ouvrez-le depuis le dossier Téléchargements et suivez les étapes.\n\
             Ouvrez une application depuis le dossier Applications.\n\
             Connectez-vous avec l'adresse e-mail d'activation et le mot de passe."
        }
        Platform::Ipados | Platform::Ios => {
            "Ouvrez le lien sur l'appareil : il mène à l'App Store.\n\
             Installez les applications souhaitées et ouvrez-en une.\n\
             Connectez-vous avec l'adresse e-mail d'activation et le mot de passe."
        }
        Platform::AndroidTablet | Platform::AndroidPhone => {
            "Ouvrez le lien sur l'appareil : il mène au Play Store.\n\
             Installez les applications souhaitées et ouvrez-en une.\n\
             Connectez-vous avec l'adresse e-mail d'activation et le mot de passe."
        }
    }
}

fn in_english(platform: Platform) -> &'static str {
    match platform {
        Platform::Windows => {
            "Download the installer.\n\
             Open it and let Windows make changes to the device.\n\
             Wait until the installation has ended, then open an application.\n\
             Sign in with the activation e-mail and the password."
        }
        Platform::Macos => {
            "Download the installation package.\n\
             Open it from the Downloads folder and follow the steps.\n\
             Open an application from the Applications folder.\n\
             Sign in with the activation e-mail and the password."
        }
        Platform::Ipados | Platform::Ios => {
            "Open the link on the device: it leads to the App Store.\n\
             Install the applications that you want and open one.\n\
             Sign in with the activation e-mail and the password."
        }
        Platform::AndroidTablet | Platform::AndroidPhone => {
            "Open the link on the device: it leads to the Play Store.\n\
             Install the applications that you want and open one.\n\
             Sign in with the activation e-mail and the password."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network() {
        assert_eq!(client("").as_deref(), Ok(""));
        assert_eq!(client("192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(client("::ffff:192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert!(client("the office").is_err());
    }

    #[test]
    fn every_platform_has_instructions_in_both_languages() {
        for platform in Platform::ALL {
            let french = installer(platform, Language::of("fr"));
            let english = installer(platform, Language::of("en"));
            assert_ne!(french.instructions, english.instructions);
            assert!(french.instructions.lines().count() >= 3);
            assert!(!french.instructions.contains("  "));
            assert!(english.instructions.lines().count() >= 3);
            let path = platform.as_str().to_lowercase().replace('_', "-");
            assert_eq!((french.platform, french.path), (platform, path.as_str()));
        }
    }

    #[test]
    fn a_network_is_named_by_its_first_64_bits() {
        assert_eq!(
            client("2001:db8:1:2:3:4:5:6").as_deref(),
            Ok("2001:db8:1:2::/64")
        );
    }

    #[test]
    fn throttles_close_as_the_readme_says() {
        for (throttle, failures, first, longest) in [
            (Throttle::Login, 5, 60, 900),
            (Throttle::Client, 50, 60, 900),
            (Throttle::Overall, 300, 5, 60),
        ] {
            let expected = Policy {
                failures,
                first_ms: first * 1000,
                longest_ms: longest * 1000,
                window_ms: 900_000,
            };
            assert_eq!(throttle.policy(), expected);
        }
    }

    #[test]
    fn every_locale_has_a_language_french_where_it_is_not_known() {
        for (locale, language) in [
            ("fr", Language::French),
            ("fr-BE", Language::French),
            ("", Language::French),
            ("en", Language::English),
            ("en-GB", Language::English),
        ] {
            assert_eq!(Language::of(locale), language, "{locale}");
        }
    }
}

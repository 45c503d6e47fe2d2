use octroi_platform::text::is_unseen;
use proptest::prelude::*;

use super::*;
use crate::domain::content::{Contact, Group, Invoice, OrderLine};
use crate::domain::locale::Amount;
use crate::domain::template::parse;

const EVIL: &str = "<b>&\"'\r\nBcc: x@y</b>{{password}}";

fn branding() -> Branding {
    Branding {
        sender: "Octroi <Démonstration>".to_owned(),
        portal_url: "https://portal.example/?a=1&b=2".to_owned(),
    }
}

fn to(locale: Locale) -> Addressee {
    Addressee {
        email: "it@acme.example".to_owned(),
        locale,
        customer: "Acme & Fils <SAS>".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
    }
}

fn login(word: &str) -> Login {
    Login {
        offer: word.to_owned(),
        activation_email: "desk@office.acme.octroi.example".to_owned(),
        user: word.to_owned(),
    }
}

fn amount(decimal: &str) -> Option<Amount> {
    Some(Amount {
        currency: "EUR".to_owned(),
        decimal: decimal.to_owned(),
    })
}

/// Every template, and both sides of each of its sections.
fn contents(word: &str) -> Vec<Content> {
    let order = |new_group, due_now| {
        Content::OrderCompleted(Order {
            order: "o1".to_owned(),
            group: word.to_owned(),
            new_group,
            lines: vec![
                OrderLine {
                    offer: word.to_owned(),
                    quantity: 10,
                },
                OrderLine {
                    offer: "Apps for enterprise".to_owned(),
                    quantity: 1,
                },
            ],
            due_now,
        })
    };
    let contact = |to_previous| {
        Content::ContactChanged(Contact {
            previous: "old@acme.example".to_owned(),
            current: "new@acme.example".to_owned(),
            to_previous,
        })
    };
    let invoice = |month: &str, due: &str| {
        Content::InvoiceIssued(Invoice {
            number: "F-2026-000001".to_owned(),
            total: amount("1234.56"),
            month: month.to_owned(),
            issue_date: "2026-12-01".to_owned(),
            due_date: due.to_owned(),
        })
    };
    vec![
        Content::LicenseActivated(login(word)),
        Content::PasswordChanged(login(word)),
        order(true, None),
        order(false, amount("12.00")),
        order(true, amount("0.00")),
        Content::GroupTerminated(Group {
            group: word.to_owned(),
            licenses: 3,
        }),
        invoice("2026-11", "2026-12-31"),
        invoice("", ""),
        contact(true),
        contact(false),
    ]
}

fn at() -> Timestamp {
    "2026-11-30T23:30:00Z".parse().unwrap()
}

fn rendered(content: &Content, locale: Locale, view: PasswordView<'_>) -> Message {
    render(content, &to(locale), at(), view, &branding()).unwrap()
}

fn every_view() -> [PasswordView<'static>; 4] {
    let password = PasswordView::Visible {
        plain: "S3same-öffne!<&>",
        expires_at: at(),
    };
    [
        PasswordView::None,
        password,
        PasswordView::Hidden,
        PasswordView::Erased,
    ]
}

#[test]
fn every_message_is_whole_in_both_languages() {
    for locale in [Locale::Fr, Locale::En] {
        for content in contents("Office") {
            for view in every_view() {
                let message = rendered(&content, locale, view);
                for part in [&message.subject, &message.text, &message.html] {
                    assert!(!part.is_empty());
                    assert!(!part.contains("{{") && !part.contains("{%"), "{part}");
                }
                assert!(!message.subject.contains('\n'));
                assert!(!message.text.contains("\n\n\n"), "{}", message.text);
                assert!(
                    message
                        .html
                        .contains(&format!("<html lang=\"{}\">", locale.tag()))
                );
                assert!(message.html.contains("Acme &amp; Fils &lt;SAS&gt;"));
                assert!(message.text.contains("Acme & Fils <SAS>"));
                let only = render_subject(&content, &to(locale), at(), &branding()).unwrap();
                assert_eq!(only, message.subject);
            }
        }
    }
}

/// Each kind of message in each language and state: none changes unless somebody means it to.
#[test]
fn messages_are_what_they_were() {
    let mut known = include_str!("golden/messages.txt").lines();
    for locale in [Locale::Fr, Locale::En] {
        for (number, content) in contents("A & <B> \"C\" 'D' /é\r\n{{x}} {%y%}")
            .iter()
            .enumerate()
        {
            let states = ["plain", "password", "hidden", "gone"];
            let login = matches!(
                content,
                Content::LicenseActivated(_) | Content::PasswordChanged(_)
            );
            let states = states.iter().zip(every_view());
            for (state, view) in states.take(if login { 4 } else { 1 }) {
                let Message {
                    subject,
                    text,
                    html,
                } = rendered(content, locale, view);
                let whole = format!("{subject}\n\n{text}\n{html}");
                let name = format!("{}-{number}-{}-{state}", content.template(), locale.tag());
                if name == "license-activated-0-fr-password" {
                    assert_eq!(
                        whole,
                        include_str!("golden/license-activated-0-fr-password")
                    );
                }
                if name == "order-completed-3-en-plain" {
                    assert_eq!(whole, include_str!("golden/order-completed-3-en-plain"));
                }
                let line = format!("{name} {:016x}", fnv(&whole));
                assert_eq!(known.next(), Some(line.as_str()), "{whole}");
            }
        }
    }
    assert_eq!(known.next(), None);
}

/// FNV-1a: enough to notice a change.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_value_cannot_change_the_message_around_it() {
    for locale in [Locale::Fr, Locale::En] {
        for content in contents(EVIL) {
            let message = rendered(&content, locale, PasswordView::Hidden);
            assert!(!message.html.contains("<b>"), "{}", message.html);
            for part in [&message.subject, &message.text, &message.html] {
                assert!(!part.contains("\nBcc:"));
            }
        }
    }
}

#[test]
fn a_password_is_shown_to_those_who_may_see_it_and_never_in_the_subject() {
    for locale in [Locale::Fr, Locale::En] {
        for content in contents("Office").into_iter().take(2) {
            let [_, password, hidden, gone] = every_view();
            let open = rendered(&content, locale, password);
            assert!(open.text.contains("S3same-öffne!<&>"));
            assert!(open.html.contains("S3same-öffne!&lt;&amp;&gt;"));
            assert!(!open.subject.contains("S3same"));
            let (hidden, gone) = (
                rendered(&content, locale, hidden),
                rendered(&content, locale, gone),
            );
            for message in [&hidden, &gone] {
                assert!(!message.text.contains("S3same") && !message.html.contains("S3same"));
            }
            let (masked, erased) = match locale {
                Locale::Fr => ("(masqué", "(effacé)"),
                Locale::En => ("(hidden", "(erased)"),
            };
            assert!(hidden.text.contains(masked) && !hidden.text.contains(erased));
            assert!(gone.text.contains(erased) && !gone.text.contains(masked));
        }
    }
}

#[test]
fn french_reads_as_french() {
    let [_, password, ..] = every_view();
    let activated = rendered(
        &Content::LicenseActivated(login("Apps")),
        Locale::Fr,
        password,
    );
    assert!(
        activated
            .text
            .contains("jusqu’au 1er décembre 2026 à 0\u{a0}h\u{a0}30")
    );
    let all = contents("Bureau");
    let order = rendered(&all[3], Locale::Fr, PasswordView::None);
    assert!(order.text.contains("- Bureau\u{a0}: 10 licences\n"));
    assert!(order.text.contains("taxes comprises\u{a0}: 12,00\u{a0}€."));
    let invoice = rendered(&all[6], Locale::Fr, PasswordView::None);
    assert!(invoice.text.contains("Mois facturé\u{a0}: novembre 2026\n"));
    assert!(invoice.text.contains("1\u{202f}234,56\u{a0}€"));
    assert!(invoice.text.contains("31 décembre 2026"));
    let terminated = rendered(&all[5], Locale::Fr, PasswordView::None);
    assert_eq!(
        terminated.subject,
        "Groupe de licences «\u{a0}Bureau\u{a0}» résilié"
    );
    assert!(
        terminated
            .text
            .contains("depuis le 1er décembre 2026 (3 licences)")
    );
}

/// A mistake in a template is found here, and not when somebody is to be told.
#[test]
fn every_template_is_well_formed() {
    let mut templates = vec![LAYOUT];
    for content in contents("Office") {
        for locale in [Locale::Fr, Locale::En] {
            let Files { text, html } = Files::of(&content, locale);
            let (subject, _) = text.source.split_once("\n\n").unwrap();
            assert!(subject.starts_with("Subject: ") && !subject.contains('\n'));
            templates.extend([text, html]);
        }
    }
    for Template { path, source } in templates {
        if let Err(error) = parse(path, source) {
            panic!("{error}");
        }
    }
}

#[test]
fn french_files_keep_french_typography() {
    for content in contents("Office") {
        let files = Files::of(&content, Locale::Fr);
        for (file, space) in [(files.text, "\u{a0}"), (files.html, "&nbsp;")] {
            let body = file.source.trim_start_matches("Subject: ");
            for mark in [" :", " !", " ?", " ;", "« ", " »", "'"] {
                // Inline styles quote fonts, and nothing else in HTML needs an apostrophe.
                assert!(!body.contains(mark), "{mark:?} in {}", content.template());
            }
            assert!(!body.contains('!') || body.contains(&format!("{space}!")));
        }
    }
}

#[test]
fn what_was_stored_can_be_read_again() {
    for content in contents(EVIL) {
        let stored = serde_json::to_value(&content).unwrap();
        assert_eq!(stored["template"], content.template());
        assert_eq!(serde_json::from_value::<Content>(stored).unwrap(), content);
    }
}

proptest! {
    #[test]
    fn any_words_make_a_message(word in "\\PC{0,40}") {
        for content in contents(&word) {
            for locale in [Locale::Fr, Locale::En] {
                let message = rendered(&content, locale, PasswordView::Erased);
                prop_assert!(!message.subject.contains(is_unseen));
            }
        }
    }
}

use super::*;

fn account() -> Account {
    let seller = defaults("specimen", "EUR");
    let new = NewAccount {
        legal_name: "Acme SAS".into(),
        contact_email: "it@acme.example".into(),
        address: Address {
            lines: vec!["1 rue de la Paix".into()],
            postal_code: "75002".into(),
            city: "Paris".into(),
            country: "FR".into(),
        },
        vat_number: String::new(),
        currency: None,
        seller: None,
        locale: Locale::Fr,
        zone: None,
    };
    Account::create(AccountId::new("acme"), new, &seller, Timestamp::UNIX_EPOCH)
}

fn defaults(id: &str, currency: &str) -> SellerDefaults {
    SellerDefaults {
        id: SellerId(id.into()),
        currency: Currency::find(currency).unwrap(),
        zone: "Europe/Paris".into(),
    }
}

#[test]
fn what_is_not_said_is_the_sellers() {
    let account = account();
    assert_eq!(account.currency.code(), "EUR");
    assert_eq!(account.time_zone(), "Europe/Paris");
    assert_eq!(account.version, 1);
}

#[test]
fn currency_and_seller_are_fixed_after_the_first_order() {
    let change = || AccountChange {
        currency: Some(Currency::find("USD")),
        ..AccountChange::default()
    };
    let other = defaults("other", "USD");
    let now = Timestamp::UNIX_EPOCH;
    let changed = account().change(change(), &other, None, now).unwrap();
    assert_eq!((changed.currency.code(), changed.version), ("USD", 2));
    let mut ordered = account();
    ordered.first_order_at = Some(now);
    let refused = ordered.change(change(), &other, None, now).unwrap_err();
    assert_eq!(refused, account_fixed(&ordered.id, "currency_code, seller"));
    let same = AccountChange {
        currency: Some(None),
        ..AccountChange::default()
    };
    let kept = ordered
        .change(same, &defaults("specimen", "EUR"), None, now)
        .unwrap();
    assert_eq!(kept, ordered);
}

#[test]
fn a_zone_is_remembered_once() {
    let seller = defaults("specimen", "EUR");
    let zone = |zone: &str| AccountChange {
        zone: Some(Some(zone.into())),
        ..AccountChange::default()
    };
    let later = Timestamp::from_second(1).unwrap();
    let moved = account()
        .change(zone("Asia/Tokyo"), &seller, None, later)
        .unwrap();
    assert_eq!(moved.zones.len(), 2);
    assert_eq!(moved.time_zone(), "Asia/Tokyo");
    assert_eq!(
        moved
            .change(zone("Asia/Tokyo"), &seller, None, later)
            .unwrap(),
        moved
    );
}

#[test]
fn a_change_that_waited_takes_effect_after_those_that_did_not() {
    let seller = defaults("specimen", "EUR");
    let zone = |zone: &str| AccountChange {
        zone: Some(Some(zone.into())),
        ..AccountChange::default()
    };
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut account = account();
    for (asked, name) in [(5, "Asia/Tokyo"), (3, "America/New_York"), (5, "UTC")] {
        let before = account.updated_at;
        account = account
            .change(zone(name), &seller, None, at(asked))
            .unwrap();
        assert!(account.updated_at > before, "{name}");
        let latest = account.zones.iter().max_by_key(|change| change.at);
        assert_eq!(latest.unwrap().zone, name);
        assert_eq!(account.time_zone(), name);
    }
    assert_eq!(account.zones[1].at, at(5));
}

#[test]
fn addresses_of_mail() {
    for good in [
        "it@acme.example",
        "a.b+c@x-y.co.uk",
        "o'neil@xn--caf-dma.fr",
    ] {
        assert_eq!(check_email(good).as_deref(), Ok(good));
    }
    for bad in [
        "",
        "acme",
        "@acme.fr",
        "it@",
        "it@acme",
        "it@@acme.fr",
        "a..b@acme.fr",
        ".a@acme.fr",
        "it@-acme.fr",
        "it@acme..fr",
        "it acme@acme.fr",
        "it@acme.fr ",
        "it@1.2.3.4",
        "é@acme.fr",
        "it\n@acme.fr",
    ] {
        assert!(check_email(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn zones_are_those_of_the_bundled_database() {
    assert_eq!(check_zone("Europe/Paris").as_deref(), Ok("Europe/Paris"));
    assert_eq!(check_zone("UTC").as_deref(), Ok("UTC"));
    for bad in ["", "Paris", "Europe/Atlantis", "+01:00"] {
        assert!(check_zone(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_quoted_order_holds_currency_and_seller_until_licensing_is_known_past_it() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut quoted = account();
    quoted.quoted_at = Some(at(5));
    for (complete_through, held) in [
        (None, true),
        (Some(4), true),
        (Some(5), false),
        (Some(6), false),
    ] {
        let change = AccountChange {
            currency: Some(Currency::find("USD")),
            ..AccountChange::default()
        };
        let complete_through = complete_through.map(at);
        let changed = quoted.change(
            change,
            &defaults("specimen", "EUR"),
            complete_through,
            at(9),
        );
        let expected = held.then(|| account_held(&quoted.id, "currency_code"));
        assert_eq!(changed.err(), expected, "{complete_through:?}");
    }
}

#[test]
fn every_field_changes_by_itself() {
    let before = account();
    let address = Address {
        city: "Lille".into(),
        ..before.address.clone()
    };
    let changes: [fn(&mut AccountChange, &mut Account, Address); 5] = [
        |change, after, _| {
            change.legal_name = Some("Acme SA".into());
            after.legal_name = "Acme SA".into();
        },
        |change, after, _| {
            change.contact_email = Some("office@acme.example".into());
            after.contact_email = "office@acme.example".into();
        },
        |change, after, address| {
            change.address = Some(address.clone());
            after.address = address;
        },
        |change, after, _| {
            change.vat_number = Some("FR40303265045".into());
            after.vat_number = "FR40303265045".into();
        },
        |change, after, _| {
            change.locale = Some(Locale::En);
            after.locale = Locale::En;
        },
    ];
    for apply in changes {
        let (mut change, mut after) = (AccountChange::default(), before.clone());
        apply(&mut change, &mut after, address.clone());
        let now = Timestamp::from_second(1).unwrap();
        (after.version, after.updated_at) = (2, now);
        let changed = before.change(change, &defaults("specimen", "EUR"), None, now);
        assert_eq!(changed, Ok(after));
    }
}

#[test]
fn texts_have_a_length_and_nothing_around_them() {
    let long = "é".repeat(200);
    for good in ["A", "Acme SAS", &long] {
        assert_eq!(check_legal_name(good).as_deref(), Ok(good));
    }
    let longer = "é".repeat(201);
    for bad in [
        "",
        " ",
        "\u{3164}",
        " Acme",
        "Acme ",
        "Ac\nme",
        "Ac\u{202e}me",
        &longer,
    ] {
        let refused = check_legal_name(bad).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("must be 1 to 200 characters"),
            "{bad:?}"
        );
    }
}

#[test]
fn addresses_of_mail_have_their_lengths() {
    let of = |local: usize, label: usize, labels: usize| {
        let labels = vec!["d".repeat(label); labels].join(".");
        format!("{}@{labels}.example", "l".repeat(local))
    };
    // 64 + "@" + three labels of 58, their dots and "example" are 249.
    for good in [
        of(64, 63, 1),
        of(1, 63, 3),
        of(64, 58, 3),
        of(61, 60, 3) + "aa",
    ] {
        assert!(good.len() <= 254 && check_email(&good).is_ok(), "{good}");
    }
    for bad in [of(65, 3, 1), of(3, 64, 1), of(62, 60, 3) + "aa"] {
        assert!(check_email(&bad).is_err(), "{bad}");
    }
    for bad in ["it@acme-.fr", "it@ac_me.fr", "it@acme.123", "it@acmé.fr"] {
        assert!(check_email(bad).is_err(), "{bad}");
    }
}

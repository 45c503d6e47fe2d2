use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id() -> LicenseId {
    LicenseId {
        account: "acme".to_owned(),
        group: "office".to_owned(),
        number: 1,
    }
}

fn seat() -> License {
    License {
        id: id(),
        offer: "apps-for-business".to_owned(),
        offer_display_name: "Apps for business".to_owned(),
        state: State::Unassigned,
        delete_at_renewal: false,
        devices: Counters::default(),
        limits: Limits::default(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
    }
}

fn user() -> User {
    User {
        first_name: "Sales".to_owned(),
        last_name: "Desk".to_owned(),
    }
}

fn email(given: &str) -> Result<ActivationEmail, String> {
    ActivationEmail::complete(given, &id(), "octroi.example")
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Activate,
    Password(bool),
    Rename,
    Mark(bool),
    Install,
    Release,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Activate),
        any::<bool>().prop_map(Step::Password),
        Just(Step::Rename),
        any::<bool>().prop_map(Step::Mark),
        Just(Step::Install),
        Just(Step::Release),
        Just(Step::Delete),
    ]
}

fn apply(license: &License, step: Step, now: Timestamp) -> Result<License, Refusal> {
    let now = license.effective(now);
    match step {
        Step::Activate => license.activate(user(), email("desk").unwrap(), now),
        Step::Password(mailed) => license.with_password(mailed, now),
        Step::Rename => license.update(
            Changes {
                first_name: Some("Front".to_owned()),
                ..Changes::default()
            },
            now,
        ),
        Step::Mark(marked) => license.update(
            Changes {
                delete_at_renewal: Some(marked),
                ..Changes::default()
            },
            now,
        ),
        Step::Install => license.assignment().map(|_| {
            let mut devices = license.devices;
            devices.computers += 1;
            license.with_devices(devices, now)
        }),
        Step::Release => license.release(now),
        Step::Delete => license.delete(now),
    }
}

proptest! {
    #[test]
    fn a_life_keeps_its_order(steps in prop::collection::vec((step(), 0..50_i64), 0..30)) {
        let mut license = seat();
        for (step, second) in steps {
            let before = license.clone();
            match apply(&before, step, at(second)) {
                Ok(after) => {
                    prop_assert_eq!(after.version, before.version + 1);
                    prop_assert!(after.updated_at >= before.updated_at);
                    prop_assert_ne!(before.state.name(), "DELETED");
                    if !matches!(after.state, State::Active(_)) {
                        prop_assert_eq!(after.devices, Counters::default());
                    }
                    license = after;
                }
                Err(refusal) => {
                    let expected = match before.state {
                        State::Deleted { .. } => Refusal::Deleted,
                        State::Unassigned => Refusal::Unassigned,
                        State::Active(_) => Refusal::Assigned,
                    };
                    prop_assert_eq!(refusal, expected);
                }
            }
        }
    }

    #[test]
    fn a_login_is_completed_and_a_full_address_stays(login in "[a-zA-Z0-9_-][a-zA-Z0-9_-]{1,62}[a-zA-Z0-9_-]") {
        let address = email(&login).unwrap();
        prop_assert_eq!(address.as_str(), format!("{login}@office.acme.octroi.example"));
        prop_assert_eq!(address.login(), login.as_str());
        prop_assert_eq!(email(address.as_str()).unwrap(), address.clone());
        prop_assert_eq!(email(&login.to_uppercase()).unwrap().key(), address.key());
    }

    #[test]
    fn whatever_is_accepted_is_an_address_of_its_own_group(given in "\\PC{0,70}|[a-z.]{0,70}|[a-z]{3}@[a-z.]{0,30}") {
        if let Ok(address) = email(&given) {
            prop_assert!(address.as_str().is_ascii());
            prop_assert!(address.as_str().ends_with("@office.acme.octroi.example"));
            prop_assert!((3..=64).contains(&address.login().len()));
            prop_assert_eq!(address.as_str().matches('@').count(), 1);
        }
    }
}

#[test]
fn refuses_what_is_no_login() {
    let long = "a".repeat(65);
    for given in [
        "",
        "ab",
        &long,
        "a b c",
        ".desk",
        "desk.",
        "front..desk",
        "élan",
        "desk@",
        "desk@acme.example",
        "desk@x.office.acme.octroi.example",
        "de@office.acme.octroi.example",
        "desk@@office.acme.octroi.example",
    ] {
        assert!(email(given).is_err(), "{given}");
    }
    assert!(email("Front.Desk_2-b@OFFICE.acme.Octroi.example").is_ok());
}

#[test]
fn the_end_of_a_period_counts_before_it_is_worked_off() {
    let group = GroupState {
        suspended: false,
        terminated: false,
        renews: true,
        period_end: at(2),
    };
    let suspended = GroupState {
        suspended: true,
        ..group
    };
    let ending = GroupState {
        renews: false,
        ..suspended
    };
    let terminated = GroupState {
        terminated: true,
        ..group
    };
    let renewing = |suspended| Standing::Renewing { suspended };
    for (group, before, after) in [
        (group, Standing::Open, renewing(false)),
        (suspended, Standing::Suspended, renewing(true)),
        (ending, Standing::Suspended, Standing::Terminated),
        (terminated, Standing::Terminated, Standing::Terminated),
    ] {
        assert_eq!(Standing::at(at(1), group), before, "{group:?}");
        assert_eq!(Standing::at(at(2), group), after, "{group:?}");
    }
}

#[test]
fn a_name_has_1_to_64_characters() {
    for bad in ["", "   ", "a\r\nBcc: b", &"x".repeat(65)] {
        assert!(user_name(bad).is_err());
    }
    assert_eq!(user_name(&"é".repeat(64)).unwrap().chars().count(), 64);
}

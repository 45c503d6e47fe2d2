use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id() -> LicenseId {
    LicenseId::of(&["acme", "office", "1"]).unwrap()
}

fn seat() -> License {
    License {
        id: id(),
        offer: OfferId::new("apps-for-business"),
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
    ActivationEmail::complete(given, &id().group, "octroi.example")
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
                    prop_assert_ne!(before.state.as_str(), "DELETED");
                    if !matches!(after.state, State::Active(_)) {
                        prop_assert_eq!(after.devices, Counters::default());
                    }
                    license = after;
                }
                Err(refusal) => {
                    let expected = match before.state {
                        State::Deleted { .. } => refusal::license_deleted(&before.id),
                        State::Unassigned => refusal::license_unassigned(&before.id),
                        State::Active(_) => refusal::license_assigned(&before.id),
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
    let renewing = |suspended| GroupStatus::Renewing { suspended };
    for (group, before, after) in [
        (group, GroupStatus::Open, renewing(false)),
        (suspended, GroupStatus::Suspended, renewing(true)),
        (ending, GroupStatus::Suspended, GroupStatus::Terminated),
        (terminated, GroupStatus::Terminated, GroupStatus::Terminated),
    ] {
        assert_eq!(GroupStatus::at(at(1), group), before, "{group:?}");
        assert_eq!(GroupStatus::at(at(2), group), after, "{group:?}");
    }
}

#[test]
fn a_name_has_1_to_64_characters() {
    for bad in ["", "   ", "a\r\nBcc: b", &"x".repeat(65)] {
        assert!(user_name(bad).is_err());
    }
    assert_eq!(user_name(&"é".repeat(64)).unwrap().chars().count(), 64);
}

#[test]
fn a_group_s_status_decides_what_its_licences_do() {
    use GroupStatus::{Open, Renewing, Suspended, Terminated};
    let renewing = |suspended| Renewing { suspended };
    let marked = License {
        delete_at_renewal: true,
        ..seat()
    };
    let group = id().group;
    let ended = Some(refusal::group_terminated(&group).to_string());
    let suspended = Some(refusal::group_suspended(&group).to_string());
    let over = Some(PERIOD_ENDED.to_string());
    let said = |checked: Result<(), Error>| checked.err().map(|error| error.to_string());
    // Its status; whether it may be changed; whether users are let in, marked to go at renewal and not.
    for (status, current, kept, going) in [
        (Open, &None, &None, &None),
        (Suspended, &None, &suspended, &suspended),
        (renewing(false), &over, &None, &over),
        (renewing(true), &over, &suspended, &suspended),
        (Terminated, &ended, &ended, &ended),
    ] {
        assert_eq!(&said(seat().check_current(status)), current, "{status:?}");
        assert_eq!(&said(seat().check_open(status)), kept, "{status:?}");
        assert_eq!(&said(marked.check_open(status)), going, "{status:?}");
        let deleted = seat().delete(at(1)).unwrap();
        assert!(deleted.check_current(status).is_ok());
    }
}

#[test]
fn a_change_changes_what_it_names_alone() {
    let active = seat()
        .activate(user(), email("desk").unwrap(), at(1))
        .unwrap();
    let assignment = active.assignment().unwrap();
    assert_eq!(
        (&assignment.user, assignment.activated_at),
        (&user(), at(1))
    );
    assert!(assignment.password_change_required);
    assert_eq!((active.updated_at, active.version), (at(1), 2));
    for mailed in [false, true] {
        let changed = active.with_password(mailed, at(2)).unwrap();
        let expected = License {
            state: State::Active(Assignment {
                password_change_required: mailed,
                ..assignment.clone()
            }),
            updated_at: at(2),
            version: 3,
            ..active.clone()
        };
        assert_eq!(changed, expected);
    }
    for (first, last, mark) in [
        (Some("A"), None, None),
        (None, Some("B"), None),
        (None, None, Some(true)),
    ] {
        let changes = Changes {
            first_name: first.map(str::to_owned),
            last_name: last.map(str::to_owned),
            delete_at_renewal: mark,
        };
        let changed = active.update(changes, at(2)).unwrap();
        let user = &changed.assignment().unwrap().user;
        let expected = format!("{} {}", first.unwrap_or("Sales"), last.unwrap_or("Desk"));
        assert_eq!(user.display_name(), expected);
        assert_eq!(changed.delete_at_renewal, mark.is_some());
    }
    let devices = Counters {
        tablets: 2,
        ..Counters::default()
    };
    let installed = active.with_devices(devices, at(2));
    assert_eq!(
        (installed.devices, &installed.state),
        (devices, &active.state)
    );
    assert_eq!(installed.effective(at(1)), at(2));
    assert_eq!(installed.effective(at(3)), at(3));
    let deleted = installed.delete(at(3)).unwrap();
    assert_eq!(deleted.state, State::Deleted { at: at(3) });
    assert_eq!(deleted.delete(at(4)), Err(refusal::license_deleted(&id())));
}

#[test]
fn an_address_names_its_account_whether_it_is_a_login_or_not() {
    for (address, account) in [
        ("desk@office.acme.octroi.example", "acme"),
        ("de sk@x.acme", "acme"),
        ("desk@office", ""),
        ("desk", ""),
        ("", ""),
    ] {
        assert_eq!(account_in(address), account, "{address}");
    }
    assert_eq!(
        email("Desk").unwrap().key(),
        "desk@office.acme.octroi.example"
    );
}

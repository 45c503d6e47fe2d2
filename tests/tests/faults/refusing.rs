//! What a process does that cannot serve: it names what is wrong, and ends with the documented code.

use octroi_tests::harness::ServiceName;

use crate::process::{By, Ended, Process, Settings, give, program};
use crate::services::{Services, password};

use ServiceName::{Billing, Licensing, Notification};

impl Services {
    /// Starts a service with these settings, which it must refuse with this code.
    async fn refuses(
        &self,
        service: ServiceName,
        settings: &Settings,
        by: By,
        code: i32,
    ) -> String {
        let Ended { code: ended, said } = self.spawn(service, settings, by).ended().await;
        assert_eq!(ended, Some(code), "{service} {by:?}: {said}");
        let word = password(service);
        assert!(!said.contains(&word), "{service} told its password: {said}");
        said
    }
}

#[track_caller]
fn names(said: &str, flags: &[&str]) {
    for flag in flags {
        assert!(said.contains(&format!("--{flag}")), "{flag}: {said}");
    }
}

/// A value that no setting can have is told, and never said again: it may be a password. Files that hold something else
/// are told all at once. The database, to which nothing listens here, is not asked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_setting_is_named() {
    const NO_DATABASE: &str = "postgres://nobody@%2Fnowhere:5432/octroi";
    let octroi = Services::prepare().await;
    let nonsense = [
        ("listen", "nowhere"),
        ("pool-size", "0"),
        ("licensing-url", "licensing"),
        ("billing-url", "https://billing.example"),
        ("notification-url", "http://"),
    ];
    let own: [(_, &[_]); 3] = [
        (
            Licensing,
            &[("activation-domain", "USERS"), ("download-url", "ftp://x")],
        ),
        (Billing, &[]),
        (
            Notification,
            &[
                ("smtp-port", "high"),
                ("smtp-tls", "perhaps"),
                ("mail-from", "nobody"),
            ],
        ),
    ];
    for (service, own) in own {
        let mut wrong: Vec<_> = nonsense.iter().chain(own).copied().collect();
        // What a URL may not hold is in more passwords than not.
        let url = format!("postgres://octroi:{}@x:y@host/octroi", password(service));
        wrong.push(("database-url", &url));
        for ((flag, value), by) in wrong
            .iter()
            .zip([By::Flags, By::Environment].iter().cycle())
        {
            let mut settings = octroi.settings(service);
            settings.insert(*flag, (*value).to_owned());
            let said = octroi.refuses(service, &settings, *by, 64).await;
            names(&said, &[*flag]);
            assert!(!said.contains(&format!("'{value}'")), "{said}");
        }
        let said = octroi.refuses_to_migrate(service, &url).await;
        names(&said, &["database-url"]);
        assert!(!said.contains(&password(service)), "{said}");
    }

    let own: [(_, &[_], &[_]); 3] = [
        (Licensing, &[], &["sealing-keys-file"]),
        (Billing, &[("seller-file", "/nowhere/seller.json")], &[]),
        (
            Notification,
            &[
                ("portal-url", "portal"),
                ("mail-from", "Shop <été@shop.example>"),
                ("mail-directory", "/nowhere/mail"),
            ],
            &["sealing-keys-file"],
        ),
    ];
    for (service, own, missing) in own {
        let mut settings = octroi.settings(service);
        let jwks = settings["jwks-file"].clone();
        let wrong = [
            ("jwks-file", "/nowhere/jwks.json"),
            ("signing-key-file", &jwks),
            ("fingerprint-key-file", &jwks),
        ];
        let wrong: Vec<_> = wrong.iter().chain(own).copied().collect();
        settings.extend(
            wrong
                .iter()
                .map(|(flag, value)| (*flag, (*value).to_owned())),
        );
        settings.insert("database-url", NO_DATABASE.to_owned());
        settings.retain(|flag, _| !missing.contains(flag));
        let flags: Vec<_> = wrong.iter().map(|(flag, _)| *flag).collect();
        for by in [By::Flags, By::Environment] {
            let said = octroi.refuses(service, &settings, by, 64).await;
            names(&said, &flags);
            names(&said, missing);
        }
    }

    for service in ServiceName::ALL {
        let said = octroi
            .refuses(service, &Settings::new(), By::Flags, 64)
            .await;
        let required = [
            "database-url",
            "jwks-file",
            "signing-key-file",
            "fingerprint-key-file",
        ];
        names(&said, &required);
    }
}

/// Where the schema, the database or the port is not as it must be, the process says so and ends: whatever looks after
/// it starts it again, and when all is there it serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_database_is_ready() {
    let mut octroi = Services::prepare_unmigrated().await;
    for service in ServiceName::ALL {
        let settings = octroi.settings(service);
        let said = octroi
            .refuses(service, &settings, By::Environment, 78)
            .await;
        assert!(said.contains("run the migrations"), "{said}");
        assert!(said.contains(service.as_str()), "{said}");

        let mut unreachable = settings.clone();
        let url = settings["database-url"].replace(":5432", ":5433");
        unreachable.insert("database-url", url);
        let said = octroi
            .refuses(service, &unreachable, By::Environment, 69)
            .await;
        assert!(said.contains("the database"), "{said}");
    }
    octroi.migrate().await;
    // A second time there is nothing to do.
    octroi.migrate().await;
    for service in ServiceName::ALL {
        octroi.starts(service).await;
    }
    let settings = octroi.settings(Billing);
    let said = octroi
        .refuses(Billing, &settings, By::Environment, 69)
        .await;
    assert!(said.contains("cannot listen on"), "{said}");
    octroi.customer("acme").await;
    for service in ServiceName::ALL {
        octroi.stop(service).await;
    }
}

/// So does the all-in-one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn together_as_well() {
    for (flag, value) in [
        ("licensing-port", "high"),
        ("listen-host", "nowhere"),
        ("test-clock", "noon"),
        ("smtp-tls", "perhaps"),
        (
            "database-url",
            "postgres://admin:Never-told-42@x:y@host/octroi",
        ),
    ] {
        let mut command = program(env!("CARGO_BIN_EXE_all-in-one"));
        let wrong = Settings::from([(flag, value.to_owned())]);
        give(&mut command, &wrong, By::Flags);
        let ended = Process::start(command).ended().await;
        assert_eq!(ended.code, Some(64), "{}", ended.said);
        names(&ended.said, &[flag]);
        assert!(!ended.said.contains("Never-told-42"), "{}", ended.said);
    }
}

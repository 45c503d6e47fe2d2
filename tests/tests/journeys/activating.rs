//! "Activate your licence": a licence gets its user, and the account's contact a letter.

use octroi_api::billing::v1::Account;
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, ChangeOwnPasswordRequest, ChangePasswordRequest, LicenseUser,
    ListInstallersRequest, ListLicensesRequest, ReleaseLicenseRequest, UpdateLicenseRequest,
    license,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Installation, Refused, account, mailed_password, request_id,
};
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tonic::Code;

#[tokio::test]
async fn a_user_is_named_and_the_contact_is_mailed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let before = acme.license("office", 1).await;
    assert_eq!(before.state(), license::State::Unassigned);
    assert_eq!((before.user, before.activation_email.as_str()), (None, ""));

    let active = acme.activates_generated("office", 1, "Sales.Desk").await;
    assert_eq!(active.state(), license::State::Active);
    assert_eq!(active.user.clone().unwrap().first_name, "Sales");
    assert!(active.password_change_required);
    let address = active.activation_email.clone();
    assert_eq!(address, "Sales.Desk@office.acme.users.octroi.example");
    assert_eq!(acme.license("office", 1).await, active);
    assert_eq!(acme.group("office").await.offers[0].active, 1);
    assert_eq!(
        acme.license("office", 2).await.state(),
        license::State::Unassigned
    );

    let email = acme.receives("license-activated", 1).await;
    assert_eq!(email.recipient, "office@acme.test");
    let password = mailed_password(&email.text_body);
    assert_eq!(password.len(), 16);
    octroi.mailed().await;
    let letters = octroi.mail.letters();
    let letter = letters
        .iter()
        .find(|letter| letter.header("Message-ID") == email.message_id)
        .expect("the letter has arrived");
    assert_eq!(letter.to, ["office@acme.test"]);
    assert_eq!(mailed_password(&letter.text()), password);
    assert!(letter.text().contains(&address) && letter.html().contains(&address));
    let session = acme.signs_in(&address, &password).await.got();
    assert!(session.password_change_required);
    octroi.finish().await;
}

/// A password of the customer's choice works as a generated one does.
#[tokio::test]
async fn a_chosen_password_is_mailed_and_works() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let active = acme.activates("office", 1, "sales").await;
    let email = acme.receives("license-activated", 1).await;
    assert_eq!(mailed_password(&email.text_body), CHOSEN);
    let session = acme.signs_in(&active.activation_email, CHOSEN).await.got();
    assert!(session.password_change_required, "it was mailed");
    octroi.finish().await;
}

#[tokio::test]
async fn a_taken_address_is_refused_and_free_after_a_release() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates("office", 1, "sales").await;
    let twice = acme.activation("office", 1, "sales2");
    let refused = acme.by.licenses().activate_license(twice).await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_ASSIGNED");
    // Whatever the case, and whether or not the domain is written out.
    for taken in ["SALES", "sales@office.acme.users.octroi.example"] {
        let request = acme.activation("office", 2, taken);
        let refused = acme.by.licenses().activate_license(request).await.refused();
        refused.is(Code::AlreadyExists, "ACTIVATION_EMAIL_TAKEN");
    }
    let request = ReleaseLicenseRequest {
        name: acme.license_name("office", 1),
        ..ReleaseLicenseRequest::default()
    };
    let released = acme
        .by
        .licenses()
        .release_license(request.clone())
        .await
        .got();
    assert_eq!(released.state(), license::State::Unassigned);
    assert_eq!(
        (released.user, released.activation_email.as_str()),
        (None, "")
    );
    let refused = acme.by.licenses().release_license(request).await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_UNASSIGNED");
    acme.activates("office", 2, "SALES").await;
    octroi.finish().await;
}

/// What would break a letter's lines, or show other than it is, is in no password and in no name.
#[tokio::test]
async fn no_text_holds_what_cannot_be_seen() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let active = acme.activates("office", 2, "sales").await;
    let user = acme.signs_in(&active.activation_email, CHOSEN).await.got();
    let user = acme.by.with_session(&user.session_token);
    let unseen = [
        "\r\n",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{ad}",
        "\u{200b}",
        "\u{202e}",
        "\u{2028}",
        "\u{2029}",
        "\u{2066}",
        "\u{feff}",
        "\u{e0041}",
    ];
    for unseen in unseen {
        let password = format!("Wooden{unseen}Chair-42");
        let request = ActivateLicenseRequest {
            password: password.clone(),
            ..acme.activation("office", 1, "night")
        };
        let refused = acme.by.licenses().activate_license(request).await.refused();
        refused.names(&["password"]);
        let rule = "must hold no control or format character";
        assert!(refused.message.contains(rule), "{}", refused.message);
        let request = ChangePasswordRequest {
            name: active.name.clone(),
            password: password.clone(),
            ..ChangePasswordRequest::default()
        };
        let refused = acme.by.licenses().change_password(request).await.refused();
        refused.names(&["password"]);
        let request = ChangeOwnPasswordRequest {
            current_password: CHOSEN.to_owned(),
            new_password: password,
            ..ChangeOwnPasswordRequest::default()
        };
        let refused = user.portal().change_own_password(request).await.refused();
        refused.names(&["new_password"]);
        let mut request = acme.activation("office", 1, "night");
        request.user = Some(LicenseUser {
            first_name: format!("Sales{unseen}Desk"),
            last_name: format!("Sales{unseen}Desk"),
        });
        let refused = acme.by.licenses().activate_license(request).await.refused();
        refused.names(&["user.first_name", "user.last_name"]);
        let named = Account {
            legal_name: format!("Acme{unseen}SAS"),
            ..Account::default()
        };
        let refused = acme.changes(&["legal_name"], named).await.refused();
        refused.names(&["account.legal_name"]);
    }
    // What joins letters is part of how some languages are written, and of some pictures.
    let request = ActivateLicenseRequest {
        password: "Wooden\u{200c}Chair\u{200d}42".to_owned(),
        ..acme.activation("office", 1, "night")
    };
    acme.by.licenses().activate_license(request).await.got();
    octroi.finish().await;
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let bad = ActivateLicenseRequest {
        name: acme.license_name("office", 1),
        user: Some(LicenseUser {
            first_name: String::new(),
            last_name: "x".repeat(65),
        }),
        activation_email: "no spaces".to_owned(),
        password: "short".to_owned(),
        request_id: "not a uuid".to_owned(),
        ..ActivateLicenseRequest::default()
    };
    let refused = acme.by.licenses().activate_license(bad).await.refused();
    for field in [
        "user.first_name",
        "user.last_name",
        "activation_email",
        "password",
        "request_id",
    ] {
        assert!(
            refused.fields.iter().any(|named| named == field),
            "{field}: {refused:?}"
        );
    }
    for password in ["aA1-", "blueberries", "Password1!", "xx-Sales-42"] {
        let request = ActivateLicenseRequest {
            password: password.to_owned(),
            ..acme.activation("office", 1, "sales")
        };
        let refused = acme.by.licenses().activate_license(request).await.refused();
        assert!(
            refused.fields.iter().all(|field| field == "password"),
            "{refused:?}"
        );
        assert!(
            !refused.message.contains(password),
            "a refusal holds no secret"
        );
    }
    acme.buys("branch", &[(BUSINESS, 1)]).await;
    let active = acme.activates("branch", 1, "sales").await;
    let change = |name: &str| ChangePasswordRequest {
        name: name.to_owned(),
        password: "sales".to_owned(),
        request_id: "not a uuid".to_owned(),
        ..ChangePasswordRequest::default()
    };
    let rules = ["must have at least 8 characters", "must have three of"];
    for (name, field) in [(active.name.as_str(), "request_id"), ("no name", "name")] {
        let mut licenses = acme.by.licenses();
        let refused = licenses.change_password(change(name)).await.refused();
        refused.is(Code::InvalidArgument, "INVALID_FIELDS");
        assert!(
            ["request_id", "password", field]
                .iter()
                .all(|field| refused.fields.iter().any(|named| named == field)),
            "{refused:?}"
        );
        for rule in rules {
            assert_eq!(refused.message.matches(rule).count(), 1, "{refused:?}");
        }
    }
    // Whose login it must not contain is known once the rest is good.
    let with_login = ChangePasswordRequest {
        password: "xx-Sales-42".to_owned(),
        request_id: String::new(),
        ..change(&active.name)
    };
    let refused = acme.by.licenses().change_password(with_login).await;
    let refused = refused.refused();
    refused.names(&["password"]);
    assert!(refused.message.contains("must not contain the login"));
    // What a stranger is told does not depend on whether there is such a licence.
    let stranger = octroi.bound_to("stranger");
    let mut licenses = stranger.licenses();
    let refused = licenses.change_password(change(&active.name)).await;
    let refused = refused.refused();
    refused.is(Code::InvalidArgument, "INVALID_FIELDS");
    let good = ChangePasswordRequest {
        name: active.name.clone(),
        ..ChangePasswordRequest::default()
    };
    let refused = licenses.change_password(good).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let elsewhere = acme.activation("office", 1, "sales@elsewhere.example");
    let refused = acme
        .by
        .licenses()
        .activate_license(elsewhere)
        .await
        .refused();
    refused.names(&["activation_email"]);
    let missing = acme.activation("office", 2, "sales");
    let refused = acme.by.licenses().activate_license(missing).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let stale = ActivateLicenseRequest {
        etag: "77".to_owned(),
        ..acme.activation("office", 1, "sales")
    };
    let refused = acme.by.licenses().activate_license(stale).await.refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Unassigned
    );
    octroi.finish().await;
}

#[tokio::test]
async fn a_users_name_is_changed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let active = acme.activates("office", 1, "sales").await;
    let mut renamed = active.clone();
    renamed.user = Some(LicenseUser {
        first_name: "Night".to_owned(),
        last_name: "Desk".to_owned(),
    });
    let request = UpdateLicenseRequest {
        license: Some(renamed.clone()),
        update_mask: Some(FieldMask {
            paths: vec!["user.first_name".to_owned()],
        }),
        request_id: request_id(),
    };
    let changed = acme
        .by
        .licenses()
        .update_license(request.clone())
        .await
        .got();
    assert_eq!(changed.user, renamed.user);
    assert_ne!(changed.etag, active.etag);
    let stale = UpdateLicenseRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let refused = acme.by.licenses().update_license(stale).await.refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    let other = UpdateLicenseRequest {
        update_mask: Some(FieldMask {
            paths: vec!["state".to_owned()],
        }),
        request_id: String::new(),
        ..request.clone()
    };
    let refused = acme.by.licenses().update_license(other).await.refused();
    refused.names(&["update_mask"]);
    let mut nobody = renamed;
    nobody.name = acme.license_name("office", 2);
    nobody.etag = String::new();
    let unassigned = UpdateLicenseRequest {
        license: Some(nobody),
        request_id: String::new(),
        ..request
    };
    let refused = acme
        .by
        .licenses()
        .update_license(unassigned)
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "LICENSE_UNASSIGNED");

    let request = ListLicensesRequest {
        parent: acme.group_name("office"),
        ..ListLicensesRequest::default()
    };
    let listed = acme
        .by
        .licenses()
        .list_licenses(request)
        .await
        .got()
        .licenses;
    assert_eq!(listed, [changed, acme.license("office", 2).await]);
    octroi.finish().await;
}

/// "If you wish to choose the password yourself": given or generated, mailed or not.
#[tokio::test]
async fn a_password_is_changed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    acme.receives("license-activated", 1).await;
    let change = ChangePasswordRequest {
        name: acme.license_name("office", 1),
        password: "Green-Lantern-7".to_owned(),
        ..ChangePasswordRequest::default()
    };
    let changed = acme
        .by
        .licenses()
        .change_password(change.clone())
        .await
        .got();
    assert!(!changed.password_change_required, "it was told in person");
    acme.signs_in(&address, CHOSEN)
        .await
        .refused()
        .is(Code::Unauthenticated, "SIGN_IN_FAILED");
    let session = acme.signs_in(&address, "Green-Lantern-7").await.got();
    assert!(!session.password_change_required);
    let user = acme.by.with_session(&session.session_token);

    let mailed = ChangePasswordRequest {
        send_email: true,
        password: "Amber-Lantern-8".to_owned(),
        ..change.clone()
    };
    assert!(
        acme.by
            .licenses()
            .change_password(mailed)
            .await
            .got()
            .password_change_required
    );
    let email = acme.receives("password-changed", 1).await;
    assert_eq!(mailed_password(&email.text_body), "Amber-Lantern-8");
    // Every session has ended.
    let listed = user
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .refused();
    listed.is(Code::Unauthenticated, "SESSION_INVALID");

    let generated = ChangePasswordRequest {
        password: String::new(),
        ..change.clone()
    };
    assert!(
        acme.by
            .licenses()
            .change_password(generated)
            .await
            .got()
            .password_change_required
    );
    let email = acme.receives("password-changed", 2).await;
    let password = mailed_password(&email.text_body);
    acme.signs_in(&address, &password).await.got();

    let plain = ChangePasswordRequest {
        password: "sales".to_owned(),
        request_id: "x".to_owned(),
        ..change.clone()
    };
    let refused = acme.by.licenses().change_password(plain).await.refused();
    assert!(
        refused.fields.contains(&"password".to_owned()),
        "{refused:?}"
    );
    assert!(
        refused.fields.contains(&"request_id".to_owned()),
        "{refused:?}"
    );
    let unassigned = ChangePasswordRequest {
        name: acme.license_name("office", 2),
        ..change
    };
    let refused = acme
        .by
        .licenses()
        .change_password(unassigned)
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "LICENSE_UNASSIGNED");
    octroi.finish().await;
}

/// The letter speaks the account's language.
#[tokio::test]
async fn a_french_customer_reads_french() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let request = octroi_api::billing::v1::CreateAccountRequest {
        account_id: "dupont".to_owned(),
        account: Some(octroi_api::billing::v1::Account {
            locale: String::new(),
            ..account("Dupont et Fils")
        }),
        ..Default::default()
    };
    by.accounts().create_account(request).await.got();
    let dupont = octroi_tests::harness::Customer {
        id: "dupont".to_owned(),
        by,
    };
    dupont.pays_with("test-success").await;
    dupont.buys("bureau", &[(BUSINESS, 1)]).await;
    dupont.activates("bureau", 1, "ventes").await;
    let email = dupont.receives("license-activated", 1).await;
    assert_eq!(email.locale, "fr");
    assert!(
        email.text_body.contains("Mot de passe"),
        "{}",
        email.text_body
    );
    octroi.finish().await;
}

/// However many want an address at once, one gets it.
#[tokio::test]
async fn an_address_is_raced_for() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 12)]).await;
    let mut racing = JoinSet::new();
    for number in 1..=12 {
        let (by, request) = (acme.by.clone(), acme.activation("office", number, "sales"));
        racing.spawn(async move { by.licenses().activate_license(request).await });
    }
    let mut won = 0;
    while let Some(answer) = racing.join_next().await {
        match answer.unwrap() {
            Ok(_) => won += 1,
            Err(status) => {
                Refused::of(&status).is(Code::AlreadyExists, "ACTIVATION_EMAIL_TAKEN");
            }
        }
    }
    assert_eq!(won, 1);
    assert_eq!(acme.group("office").await.offers[0].active, 1);
    octroi.finish().await;
}

/// Who does not wait for the answer finds it under the same request id: a command goes on to its end.
#[tokio::test]
async fn whoever_hangs_up_may_ask_again() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let mut activation = acme.activation("office", 1, "sales");
    activation.request_id = request_id();
    let mut impatient = tonic::Request::new(activation.clone());
    impatient.set_timeout(std::time::Duration::from_millis(5));
    let hung_up = acme.by.licenses().activate_license(impatient).await;
    assert!(hung_up.is_err(), "an activation takes longer than that");
    let active = acme.by.licenses().activate_license(activation).await.got();
    assert_eq!(active, acme.license("office", 1).await);
    octroi.mailed().await;
    acme.receives("license-activated", 1).await;
    octroi.finish().await;
}

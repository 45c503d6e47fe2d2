//! "Install the suite on your machine": sign-in, the forced change of password, installers, devices.

use octroi_api::licensing::v1::{
    ChangeOwnPasswordRequest, DeactivateOwnDeviceRequest, Device, ListInstallersRequest,
    ListOwnDevicesRequest, Platform, RegisterDeviceRequest, ReleaseLicenseRequest, SignOutRequest,
    device,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Customer, ENTERPRISE, Installation, Refused,
    mailed_password, request_id,
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

#[tokio::test]
async fn sign_in_change_the_password_sign_out() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let address = acme
        .activates_generated("office", 1, "sales")
        .await
        .activation_email;
    let mailed = mailed_password(&acme.receives("license-activated", 1).await.text_body);

    for (address, password) in [
        (address.as_str(), "Wrong-Password-1"),
        ("nobody@nowhere.example", &mailed),
    ] {
        let refused = acme.signs_in(address, password).await.refused();
        refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    }
    let session = acme.signs_in(&address.to_uppercase(), &mailed).await.got();
    assert_eq!(session.license, acme.license_name("office", 1));
    assert!(session.password_change_required);
    let user = acme.by.with_session(&session.session_token);
    let refused = user
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED");
    let refused = installs(&user, Platform::Windows).await.refused();
    refused.is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED");

    let other = acme.signs_in(&address, &mailed).await.got();
    let other = acme.by.with_session(&other.session_token);
    let change = |current: &str, new: &str| ChangeOwnPasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
        request_id: request_id(),
    };
    let same = user
        .portal()
        .change_own_password(change(&mailed, &mailed))
        .await
        .refused();
    same.names(&["new_password"]);
    let weak = user
        .portal()
        .change_own_password(change(&mailed, "sales"))
        .await
        .refused();
    assert!(weak.fields.contains(&"new_password".to_owned()), "{weak:?}");
    let wrong = user
        .portal()
        .change_own_password(change("Wrong-1-Password", CHOSEN))
        .await
        .refused();
    assert_eq!(wrong.code, Code::Unauthenticated, "{wrong:?}");
    let chosen = change(&mailed, CHOSEN);
    user.portal()
        .change_own_password(chosen.clone())
        .await
        .got();
    let reused = ChangeOwnPasswordRequest {
        new_password: "sales".to_owned(),
        ..chosen
    };
    let refused = user.portal().change_own_password(reused).await.refused();
    refused.is(Code::InvalidArgument, "REQUEST_ID_REUSED");

    // This session goes on and opens everything; the other one has ended.
    let installers = user
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .got();
    assert_eq!(installers.applications.len(), 6);
    let platforms: Vec<_> = installers
        .installers
        .iter()
        .map(|it| it.platform())
        .collect();
    for platform in [
        Platform::Windows,
        Platform::Macos,
        Platform::Ipados,
        Platform::AndroidTablet,
        Platform::Ios,
        Platform::AndroidPhone,
    ] {
        assert!(platforms.contains(&platform), "{platforms:?}");
    }
    assert!(
        installers
            .installers
            .iter()
            .all(|it| it.download_uri.starts_with("https://") && !it.instructions.is_empty())
    );
    let ended = other
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .refused();
    ended.is(Code::Unauthenticated, "SESSION_INVALID");
    // Nor does it learn what is wrong with a request.
    let weak = ChangeOwnPasswordRequest {
        request_id: "no UUID".to_owned(),
        ..change("weak", "weak")
    };
    let refused = other
        .portal()
        .change_own_password(weak.clone())
        .await
        .refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");
    let refused = user.portal().change_own_password(weak).await.refused();
    assert!(refused.fields.contains(&"request_id".to_owned()));
    assert!(refused.message.contains("must differ"), "{refused:?}");
    let refused = other
        .portal()
        .change_own_password(change(CHOSEN, ""))
        .await
        .refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");

    user.portal().sign_out(SignOutRequest {}).await.got();
    let ended = user
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .refused();
    ended.is(Code::Unauthenticated, "SESSION_INVALID");
    acme.signs_in(&address, &mailed)
        .await
        .refused()
        .is(Code::Unauthenticated, "SIGN_IN_FAILED");
    assert!(
        !acme
            .signs_in(&address, CHOSEN)
            .await
            .got()
            .password_change_required
    );
    let nobody = acme
        .by
        .portal()
        .list_installers(ListInstallersRequest {})
        .await
        .refused();
    nobody.is(Code::Unauthenticated, "SESSION_INVALID");
    octroi.finish().await;
}

/// Up to 5 computers, 5 tablets and 5 smartphones: three counters, and Windows and macOS share one.
#[tokio::test]
async fn five_of_each_kind_and_no_sixth() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let user = user(&acme, BUSINESS).await;
    let kinds = [
        ("computers", [Platform::Windows, Platform::Macos]),
        ("tablets", [Platform::Ipados, Platform::AndroidTablet]),
        ("smartphones", [Platform::Ios, Platform::AndroidPhone]),
    ];
    for (kind, platforms) in kinds {
        for at in 0..5 {
            let device = installs(&user, platforms[at % 2]).await.got();
            assert_eq!(device.state(), device::State::Active);
        }
        for platform in platforms {
            let refused = installs(&user, platform).await.refused();
            refused.is(Code::ResourceExhausted, "DEVICE_LIMIT_REACHED");
            assert_eq!(refused.quotas[0].0, kind);
            assert_eq!(
                (&*refused.metadata["kind"], &*refused.metadata["limit"]),
                (kind, "5")
            );
        }
    }
    let counters = acme.license("office", 1).await.devices.unwrap();
    assert_eq!(
        (counters.computers, counters.tablets, counters.smartphones),
        (5, 5, 5)
    );
    let limits = (
        counters.computer_limit,
        counters.tablet_limit,
        counters.smartphone_limit,
    );
    assert_eq!(limits, (5, 5, 5));

    let devices = own_devices(&user, false).await;
    assert_eq!(devices.len(), 15);
    let first = devices
        .iter()
        .find(|device| device.platform() == Platform::Macos)
        .unwrap();
    let request = DeactivateOwnDeviceRequest {
        name: first.name.clone(),
        request_id: request_id(),
    };
    let gone = user.portal().deactivate_own_device(request).await.got();
    assert_eq!(gone.state(), device::State::Deactivated);
    assert_eq!(own_devices(&user, false).await.len(), 14);
    assert_eq!(own_devices(&user, true).await.len(), 15);
    // The audit has the device, and its licence, before and after each change.
    let audited = "SELECT format('%s %s %s %s', substring(method FROM '[^/]*$'), resource = $1,
            before->>'deactivated_at' IS NULL, after->>'deactivated_at' IS NULL)
        FROM licensing.audit
        WHERE resource = $1 OR resource = $2 AND method LIKE '%/DeactivateOwnDevice' ORDER BY id";
    let license = first.name.split("/devices/").next().unwrap();
    let audited = octroi.sql.query(audited, &[&first.name, &license]).await;
    let audited: Vec<String> = audited.unwrap().iter().map(|row| row.get(0)).collect();
    let expected = [
        "RegisterDevice t t t",
        "DeactivateOwnDevice f t t",
        "DeactivateOwnDevice t t f",
    ];
    assert_eq!(audited, expected);
    installs(&user, Platform::Windows).await.got();
    installs(&user, Platform::Windows).await.refused();

    let elsewhere = DeactivateOwnDeviceRequest {
        name: first.name.replace("licenses/1", "licenses/2"),
        ..DeactivateOwnDeviceRequest::default()
    };
    let refused = user
        .portal()
        .deactivate_own_device(elsewhere)
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let nothing = RegisterDeviceRequest {
        device: Some(Device::default()),
        request_id: "?".to_owned(),
    };
    let refused = user.portal().register_device(nothing).await.refused();
    refused.names(&["device.platform", "device.display_name", "request_id"]);
    octroi.finish().await;
}

/// Shared computers take no place, and only the offer for enterprises has them.
#[tokio::test]
async fn shared_computers() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1), (ENTERPRISE, 1)]).await;
    let business = signed_in(&acme, 1, "sales").await;
    let enterprise = signed_in(&acme, 2, "night").await;
    let refused = business
        .portal()
        .register_device(shared(Platform::Windows))
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "SHARED_COMPUTER_NOT_ALLOWED");
    for _ in 0..7 {
        enterprise
            .portal()
            .register_device(shared(Platform::Windows))
            .await
            .got();
    }
    let refused = enterprise
        .portal()
        .register_device(shared(Platform::Ios))
        .await
        .refused();
    refused.names(&["device.shared_computer"]);
    for _ in 0..5 {
        installs(&enterprise, Platform::Windows).await.got();
    }
    assert_eq!(
        acme.license("office", 2).await.devices.unwrap().computers,
        5
    );
    assert_eq!(own_devices(&enterprise, false).await.len(), 12);
    octroi.finish().await;
}

/// What a release takes from the user: session, devices, password; the next user starts clean.
#[tokio::test]
async fn a_released_licence_opens_nothing() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let user = user(&acme, BUSINESS).await;
    installs(&user, Platform::Windows).await.got();
    installs(&user, Platform::Ios).await.got();
    let request = ReleaseLicenseRequest {
        name: acme.license_name("office", 1),
        ..ReleaseLicenseRequest::default()
    };
    let released = acme.by.licenses().release_license(request).await.got();
    let counters = released.devices.unwrap();
    assert_eq!((counters.computers, counters.smartphones), (0, 0));
    let refused = installs(&user, Platform::Windows).await.refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");
    let address = "sales@office.acme.users.octroi.example";
    let refused = acme.signs_in(address, CHOSEN).await.refused();
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    let next = signed_in(&acme, 1, "night").await;
    assert_eq!(own_devices(&next, false).await, []);
    octroi.finish().await;
}

/// Sign-ins that fail are counted per login, known or not, and shut out for a while.
#[tokio::test]
async fn too_many_wrong_passwords() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    for address in [address.as_str(), "nobody@office.acme.users.octroi.example"] {
        let mut refusals = Vec::new();
        for _ in 0..8 {
            refusals.push(acme.signs_in(address, "Wrong-Password-1").await.refused());
        }
        assert_eq!(refusals[0].reason, "SIGN_IN_FAILED");
        let last = &refusals[7];
        last.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
        assert!(last.retry.is_some());
    }
    let refused = acme.signs_in(&address, CHOSEN).await.refused();
    refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    octroi.finish().await;
}

/// A session lasts half a day of business time.
#[tokio::test]
async fn a_session_expires() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let user = user(&acme, BUSINESS).await;
    octroi.advance_to("2026-02-02T19:00:00Z").await;
    own_devices(&user, false).await;
    octroi.advance_to("2026-02-02T21:00:00Z").await;
    let refused = installs(&user, Platform::Windows).await.refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");
    octroi.finish().await;
}

/// Licence 1 of a new group "office", with its user signed in.
async fn user(acme: &Customer, offer: &str) -> Caller {
    acme.buys("office", &[(offer, 1)]).await;
    signed_in(acme, 1, "sales").await
}

/// A user who has chosen a password of their own, and it is [`CHOSEN`].
async fn signed_in(acme: &Customer, number: i32, login: &str) -> Caller {
    let address = acme
        .activates_generated("office", number, login)
        .await
        .activation_email;
    let email = octroi_tests::harness::eventually("the activation's e-mail", async || {
        let emails = acme.emails().await;
        emails
            .into_iter()
            .find(|email| email.text_body.contains(&address))
    })
    .await;
    let mailed = mailed_password(&email.text_body);
    let session = acme.signs_in(&address, &mailed).await.got();
    let user = acme.by.with_session(&session.session_token);
    let change = ChangeOwnPasswordRequest {
        current_password: mailed,
        new_password: CHOSEN.to_owned(),
        ..ChangeOwnPasswordRequest::default()
    };
    user.portal().change_own_password(change).await.got();
    user
}

async fn installs(user: &Caller, platform: Platform) -> Result<Response<Device>, Status> {
    let device = Device {
        platform: platform.into(),
        display_name: "A machine".to_owned(),
        ..Device::default()
    };
    let request = RegisterDeviceRequest {
        device: Some(device),
        request_id: request_id(),
    };
    user.portal().register_device(request).await
}

fn shared(platform: Platform) -> RegisterDeviceRequest {
    RegisterDeviceRequest {
        device: Some(Device {
            platform: platform.into(),
            display_name: "A terminal server".to_owned(),
            shared_computer: true,
            ..Device::default()
        }),
        request_id: String::new(),
    }
}

async fn own_devices(user: &Caller, show_deactivated: bool) -> Vec<Device> {
    let request = ListOwnDevicesRequest {
        show_deactivated,
        ..ListOwnDevicesRequest::default()
    };
    user.portal().list_own_devices(request).await.got().devices
}

/// However many devices are registered at once, five are.
#[tokio::test]
async fn the_last_places_are_raced_for() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let user = user(&acme, BUSINESS).await;
    let mut racing = JoinSet::new();
    for _ in 0..20 {
        let user = user.clone();
        racing.spawn(async move { installs(&user, Platform::Windows).await });
    }
    let mut placed = 0;
    while let Some(answer) = racing.join_next().await {
        match answer.unwrap() {
            Ok(_) => placed += 1,
            Err(status) => {
                Refused::of(&status).is(Code::ResourceExhausted, "DEVICE_LIMIT_REACHED");
            }
        }
    }
    assert_eq!(placed, 5);
    assert_eq!(own_devices(&user, true).await.len(), 5);
    octroi.finish().await;
}

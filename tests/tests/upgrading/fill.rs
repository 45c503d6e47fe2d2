//! A life that leaves something in every table, and much of it unfinished.

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, CancelOrderRequest, ChangeOwnPasswordRequest, ChangePasswordRequest,
    DeactivateOwnDeviceRequest, DeleteLicenseRequest, Device, NewLicenseGroup, PayOrderRequest,
    Platform, RegisterDeviceRequest, ReleaseLicenseRequest, SignOutRequest,
    TerminateLicenseGroupRequest, TerminationReason,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, ENTERPRISE, Installation, Price, ServiceName, at,
    eventually, mailed_password, method, new_group,
};
use prost_types::FieldMask;
use tonic::Code;

/// When it begins.
pub const START: &str = "2026-01-26T08:00:00Z";
/// The requests that paid acme's first order, changed its contact and activated a licence.
const PAID: &str = "5f0c0f0e-0000-4000-8000-000000000001";
const MOVED: &str = "5f0c0f0e-0000-4000-8000-000000000002";
const ACTIVATED: &str = "5f0c0f0e-0000-4000-8000-000000000003";
/// The one that was declined, and sent again.
const DECLINED: &str = "5f0c0f0e-0000-4000-8000-000000000004";
/// What acme's first user chose.
pub const OWN_PASSWORD: &str = "Green-Harbour-42";

/// Fills the installation's database and stops the services in the middle of their work.
pub async fn play(octroi: &mut Installation) {
    // With a fee, so that orders are charged and invoiced too.
    let price = Price {
        offer: ENTERPRISE,
        monthly: 13_99,
        setup: 2_50,
        policy: "DAILY",
    };
    octroi.price(price, at("2026-01-02T00:00:00Z")).await;
    let acme = octroi.customer("acme").await;
    orders(&acme).await;
    users(&acme).await;
    elsewhere(octroi).await;
    octroi.drained().await;
    // Events are listed in positions that the first list gives: those of later have none yet.
    for service in [ServiceName::Licensing, ServiceName::Billing] {
        assert_ne!(acme.events(service).await, []);
    }
    let kiri = told_late(octroi).await;
    unfinished(octroi, &acme, &kiri).await;
}

/// Paid, declined and paid, cancelled, expired by the time that time goes on.
async fn orders(acme: &Customer) {
    let group = NewLicenseGroup {
        display_name: "L'office «1»".to_owned(),
        ..new_group("office")
    };
    acme.asks_for("office", group, &[(BUSINESS, 6), (ENTERPRISE, 2)])
        .await
        .got();
    acme.by.orders().pay_order(paid_again(acme)).await.got();
    acme.asks_for_more("more", "office", &[(ENTERPRISE, 1)])
        .await
        .got();
    for _ in 0..2 {
        let declined = PayOrderRequest {
            name: acme.order_name("more"),
            new_payment_method: Some(method("test-decline-insufficient-funds")),
            request_id: DECLINED.to_owned(),
        };
        let refused = acme.by.orders().pay_order(declined).await.refused();
        refused.is(Code::FailedPrecondition, "PAYMENT_DECLINED");
    }
    acme.pays_by("more", "test-success").await.got();
    acme.asks_for("never", new_group("never"), &[(BUSINESS, 1)])
        .await
        .got();
    let cancel = CancelOrderRequest {
        name: acme.order_name("never"),
        ..CancelOrderRequest::default()
    };
    acme.by.orders().cancel_order(cancel).await.got();
    acme.asks_for("expired", new_group("expired"), &[(BUSINESS, 1)])
        .await
        .got();
    acme.buys("closed", &[(BUSINESS, 2)]).await;
    acme.activates("closed", 1, "closed").await;
    let terminate = TerminateLicenseGroupRequest {
        name: acme.group_name("closed"),
        reasons: vec![TerminationReason::TooExpensive.into()],
        ..TerminateLicenseGroupRequest::default()
    };
    let mut groups = acme.by.groups();
    groups.terminate_license_group(terminate).await.got();
    acme.buys("leaving", &[(BUSINESS, 1)]).await;
    let terminate = TerminateLicenseGroupRequest {
        name: acme.group_name("leaving"),
        reasons: vec![TerminationReason::NotNeeded.into()],
        at_period_end: true,
        ..TerminateLicenseGroupRequest::default()
    };
    groups.terminate_license_group(terminate).await.got();
}

/// The request that paid the first order, as it may be sent again.
pub fn paid_again(acme: &Customer) -> PayOrderRequest {
    PayOrderRequest {
        name: acme.order_name("office"),
        request_id: PAID.to_owned(),
        ..PayOrderRequest::default()
    }
}

/// The request that changed the contact.
pub fn moved_again(acme: &Customer) -> UpdateAccountRequest {
    UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            contact_email: "new@acme.test".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["contact_email".to_owned()],
        }),
        request_id: MOVED.to_owned(),
    }
}

/// The request that gave a released licence to another user.
pub fn activated_again(acme: &Customer) -> ActivateLicenseRequest {
    ActivateLicenseRequest {
        request_id: ACTIVATED.to_owned(),
        ..acme.activation("office", 2, "support")
    }
}

/// Users with sessions and devices, seats that were released and deleted.
async fn users(acme: &Customer) {
    let address = acme
        .activates_generated("office", 1, "sales")
        .await
        .activation_email;
    let mailed = mailed_password(&acme.receives("license-activated", 2).await.text_body);
    let user = acme.user(&address, &mailed).await;
    let mut portal = user.portal();
    let change = ChangeOwnPasswordRequest {
        current_password: mailed,
        new_password: OWN_PASSWORD.to_owned(),
        ..ChangeOwnPasswordRequest::default()
    };
    portal.change_own_password(change).await.got();
    for platform in [Platform::Windows, Platform::Ios] {
        let register = RegisterDeviceRequest {
            device: Some(Device {
                platform: platform.into(),
                display_name: "Jo\\'s machine".to_owned(),
                ..Device::default()
            }),
            ..RegisterDeviceRequest::default()
        };
        let device = portal.register_device(register).await.got();
        if platform == Platform::Ios {
            let deactivate = DeactivateOwnDeviceRequest {
                name: device.name,
                ..DeactivateOwnDeviceRequest::default()
            };
            portal.deactivate_own_device(deactivate).await.got();
        }
    }
    let other = acme.user(&address, OWN_PASSWORD).await;
    other.portal().sign_out(SignOutRequest {}).await.got();
    let refused = acme.signs_in(&address, CHOSEN).await.refused();
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");

    acme.activates("office", 2, "support").await;
    acme.activates("office", 3, "stock").await;
    acme.activates("office", 7, "head").await;
    let release = ReleaseLicenseRequest {
        name: acme.license_name("office", 2),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(release).await.got();
    let delete = DeleteLicenseRequest {
        name: acme.license_name("office", 3),
        ..DeleteLicenseRequest::default()
    };
    acme.by.licenses().delete_license(delete).await.got();
}

/// Accounts in other zones and countries: one whose zone changes, one that cannot be invoiced, one without anything.
async fn elsewhere(octroi: &Installation) {
    octroi.newcomer("idle").await;
    for (id, zone) in [
        ("kiri", "Pacific/Kiritimati"),
        ("pago", "Pacific/Pago_Pago"),
    ] {
        let customer = octroi.customer(id).await;
        let account = Account {
            time_zone: zone.to_owned(),
            locale: "fr".to_owned(),
            ..Account::default()
        };
        customer
            .changes(&["time_zone", "locale"], account)
            .await
            .got();
        customer.buys("island", &[(BUSINESS, 3)]).await;
        customer.activates("island", 1, "one").await;
    }
    let berlin = octroi.customer("berlin").await;
    berlin.buys("wall", &[(BUSINESS, 1)]).await;
    berlin.activates("wall", 1, "east").await;
    berlin.moves_to("DE").await;
    octroi.advance_to("2026-01-29T08:00:00Z").await;
    let account = Account {
        time_zone: "Pacific/Kiritimati".to_owned(),
        ..Account::default()
    };
    let pago = Customer {
        id: "pago".to_owned(),
        by: octroi.operator(),
    };
    pago.changes(&["time_zone"], account).await.got();
}

/// A month is invoiced, tried first, while billing has not heard of one activation.
async fn told_late(octroi: &Installation) -> Customer {
    let kiri = Customer {
        id: "kiri".to_owned(),
        by: octroi.operator(),
    };
    let hold = "UPDATE licensing.delivery SET due_at = 'infinity', attempts = 8 WHERE subscriber = 'billing'";
    let keep = "
        CREATE FUNCTION licensing.hold() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.subscriber = 'billing' THEN NEW.due_at := 'infinity'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER hold BEFORE INSERT ON licensing.delivery FOR EACH ROW EXECUTE FUNCTION licensing.hold()";
    octroi.sql.batch_execute(keep).await.unwrap();
    kiri.activates("island", 2, "two").await;
    let free = "DROP FUNCTION licensing.hold CASCADE";
    octroi.sql.batch_execute(free).await.unwrap();
    assert_eq!(octroi.sql.execute(hold, &[]).await.unwrap(), 1);
    octroi.advance_to("2026-02-03T08:00:00Z").await;
    let believe = "UPDATE billing.intake_progress SET complete_through = $1";
    let now = octroi.now().await;
    octroi.sql.execute(believe, &[&now]).await.unwrap();
    octroi.tries_to_bill("2026-01").await;
    octroi.bills("2026-01").await;
    octroi.sql.execute(believe, &[&now]).await.unwrap();
    let free = "UPDATE licensing.delivery SET attempts = 0, due_at = clock_timestamp()";
    octroi.sql.execute(free, &[]).await.unwrap();
    octroi.drained().await;
    kiri
}

/// What is under way: an order that waits for its payment, one whose payment has no answer, e-mails that came back or
/// wait, a password that can be read, facts that nobody has heard of and one that was refused too often.
async fn unfinished(octroi: &mut Installation, acme: &Customer, kiri: &Customer) {
    octroi.mailed().await;
    octroi.mail.answer_next(&["550 5.1.1 nobody there"]);
    let mut accounts = acme.by.accounts();
    accounts.update_account(moved_again(acme)).await.got();
    octroi.mailed().await;
    let mail = ChangePasswordRequest {
        name: acme.license_name("office", 7),
        ..ChangePasswordRequest::default()
    };
    acme.by.licenses().change_password(mail).await.got();
    octroi.mailed().await;

    octroi.mail.answer_next(&["451 4.3.0 try again"]);
    kiri.activates_generated("island", 3, "three").await;
    eventually("an e-mail is tried and waits", async || {
        let waits = "SELECT FROM notification.email WHERE state = 'QUEUED' AND attempts > 0 AND lease_token IS NULL";
        octroi.sql.query_opt(waits, &[]).await.unwrap()
    })
    .await;
    octroi.drained().await;
    octroi.stop(ServiceName::Notification).await;
    let mut licenses = acme.by.licenses();
    licenses.activate_license(activated_again(acme)).await.got();
    let address = acme.license("office", 1).await.activation_email;
    acme.signs_in(&address, OWN_PASSWORD).await.got();
    let account = Account {
        legal_name: "Acme & Söhne".to_owned(),
        ..Account::default()
    };
    acme.changes(&["legal_name"], account).await.got();
    acme.asks_for("unpaid", new_group("unpaid"), &[(BUSINESS, 2)])
        .await
        .got();
    acme.asks_for_more("paying", "office", &[(ENTERPRISE, 1)])
        .await
        .got();
    let refused = acme.pays_by("paying", "test-processing").await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    octroi.stop(ServiceName::Billing).await;
    acme.activates("office", 4, "night").await;
    let delete = DeleteLicenseRequest {
        name: acme.license_name("office", 4),
        ..DeleteLicenseRequest::default()
    };
    acme.by.licenses().delete_license(delete).await.got();
    octroi.stop(ServiceName::Licensing).await;
    let park = "
        UPDATE licensing.delivery SET parked = true, attempts = 12, refusals = 12, last_error = 'could not be applied'
        WHERE subscriber = 'billing' AND aggregate = $1 AND sequence = 1";
    let aggregate = acme.license_name("office", 4);
    assert_eq!(octroi.sql.execute(park, &[&aggregate]).await.unwrap(), 1);
}

//! One good request for every declared method, for the tests that treat them alike.

use octroi_api::billing::v1 as billing;
use octroi_api::event::v1 as event;
use octroi_api::licensing::v1 as licensing;
use octroi_api::notification::v1 as notification;
use octroi_api::testing::v1 as testing;
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, Price, account, at, lines, method,
    new_group,
};
use prost::Message;

/// What a customer has, by the ids that Octroi made.
pub struct Known {
    email: String,
    invoice: String,
    payment: String,
    payment_method: String,
    device: String,
    /// The session of the user of licence 1.
    pub session: String,
}

/// A customer with something of every kind: a group "office" from an order "office", an unpaid order "open", an
/// activated licence 1 whose user has a device.
pub async fn with_everything(octroi: &Installation, id: &str) -> (Customer, Known) {
    let price = Price {
        offer: BUSINESS,
        monthly: 9_99,
        setup: 1_00,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    let customer = octroi.newcomer(id).await;
    let payment_method = customer.pays_with("test-success").await;
    let order = customer.buys("office", &[(BUSINESS, 3)]).await;
    customer
        .asks_for_more("open", "office", &[(BUSINESS, 1)])
        .await
        .got();
    let license = customer.activates("office", 1, "sales").await;
    let change = licensing::ChangePasswordRequest {
        name: license.name,
        password: CHOSEN.to_owned(),
        ..licensing::ChangePasswordRequest::default()
    };
    customer.by.licenses().change_password(change).await.got();
    let session = customer
        .signs_in(&license.activation_email, CHOSEN)
        .await
        .got();
    let user = customer.by.with_session(&session.session_token);
    let device = user.portal().register_device(device()).await.got();
    let email = customer.receives("license-activated", 1).await;
    let known = Known {
        email: id_of(&email.name),
        invoice: id_of(&order.invoice),
        payment: id_of(&order.payment),
        payment_method: id_of(&payment_method.name),
        device: id_of(&device.name),
        session: session.session_token,
    };
    (customer, known)
}

fn id_of(name: &str) -> String {
    name.rsplit('/').next().unwrap().to_owned()
}

fn device() -> licensing::RegisterDeviceRequest {
    licensing::RegisterDeviceRequest {
        device: Some(licensing::Device {
            platform: licensing::Platform::Windows.into(),
            display_name: "A machine".to_owned(),
            ..licensing::Device::default()
        }),
        ..licensing::RegisterDeviceRequest::default()
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: vec![path.to_owned()],
    })
}

/// A good request for every method that is declared, on the resources of the account of this id.
pub fn every_request(id: &str, known: &Known) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = licensing_requests(id, known);
    all.extend(billing_requests(id, known));
    all.extend(other_requests(id, known));
    all
}

fn licensing_requests(id: &str, known: &Known) -> Vec<(&'static str, Vec<u8>)> {
    let parent = format!("accounts/{id}");
    let group = format!("{parent}/licenseGroups/office");
    let license = format!("{group}/licenses/1");
    let order = format!("{parent}/orders/open");
    let mut all = Vec::new();
    macro_rules! request {
        ($service:literal, $method:literal, $message:expr) => {
            let path = concat!("/octroi.licensing.v1.", $service, "/", $method);
            all.push((path, $message.encode_to_vec()));
        };
    }
    use licensing::*;
    request!(
        "OfferService",
        "GetOffer",
        GetOfferRequest {
            name: BUSINESS.to_owned()
        }
    );
    request!("OfferService", "ListOffers", ListOffersRequest::default());
    request!(
        "OrderService",
        "CreateOrder",
        CreateOrderRequest {
            parent: parent.clone(),
            order: Some(Order {
                new_group: Some(new_group("another")),
                lines: lines(&[(BUSINESS, 1)]),
                ..Order::default()
            }),
            ..CreateOrderRequest::default()
        }
    );
    request!(
        "OrderService",
        "GetOrder",
        GetOrderRequest {
            name: order.clone()
        }
    );
    request!(
        "OrderService",
        "ListOrders",
        ListOrdersRequest {
            parent: parent.clone(),
            ..ListOrdersRequest::default()
        }
    );
    request!(
        "OrderService",
        "PayOrder",
        PayOrderRequest {
            name: order.clone(),
            ..PayOrderRequest::default()
        }
    );
    request!(
        "OrderService",
        "CancelOrder",
        CancelOrderRequest {
            name: order,
            ..CancelOrderRequest::default()
        }
    );
    request!(
        "LicenseGroupService",
        "GetLicenseGroup",
        GetLicenseGroupRequest {
            name: group.clone()
        }
    );
    request!(
        "LicenseGroupService",
        "ListLicenseGroups",
        ListLicenseGroupsRequest {
            parent,
            ..ListLicenseGroupsRequest::default()
        }
    );
    request!(
        "LicenseGroupService",
        "UpdateLicenseGroup",
        UpdateLicenseGroupRequest {
            license_group: Some(LicenseGroup {
                name: group.clone(),
                display_name: "Head office".to_owned(),
                ..LicenseGroup::default()
            }),
            update_mask: mask("display_name"),
            ..UpdateLicenseGroupRequest::default()
        }
    );
    request!(
        "LicenseGroupService",
        "TerminateLicenseGroup",
        TerminateLicenseGroupRequest {
            name: group.clone(),
            reasons: vec![TerminationReason::NotNeeded.into()],
            at_period_end: true,
            ..TerminateLicenseGroupRequest::default()
        }
    );
    request!(
        "LicenseGroupService",
        "CancelTermination",
        CancelTerminationRequest {
            name: group.clone(),
            ..CancelTerminationRequest::default()
        }
    );
    request!(
        "LicenseGroupService",
        "QueryUsage",
        QueryUsageRequest {
            name: group.clone(),
            month: "2026-02".to_owned(),
        }
    );
    request!(
        "LicenseService",
        "GetLicense",
        GetLicenseRequest {
            name: license.clone()
        }
    );
    request!(
        "LicenseService",
        "ListLicenses",
        ListLicensesRequest {
            parent: group.clone(),
            ..ListLicensesRequest::default()
        }
    );
    request!(
        "LicenseService",
        "ActivateLicense",
        ActivateLicenseRequest {
            name: format!("{group}/licenses/2"),
            user: Some(LicenseUser {
                first_name: "Night".to_owned(),
                last_name: "Desk".to_owned(),
            }),
            activation_email: "night".to_owned(),
            password: CHOSEN.to_owned(),
            ..ActivateLicenseRequest::default()
        }
    );
    request!(
        "LicenseService",
        "UpdateLicense",
        UpdateLicenseRequest {
            license: Some(License {
                name: license.clone(),
                delete_at_renewal: true,
                ..License::default()
            }),
            update_mask: mask("delete_at_renewal"),
            ..UpdateLicenseRequest::default()
        }
    );
    request!(
        "LicenseService",
        "ChangePassword",
        ChangePasswordRequest {
            name: license.clone(),
            password: "Green-Lantern-7".to_owned(),
            ..ChangePasswordRequest::default()
        }
    );
    request!(
        "LicenseService",
        "ReleaseLicense",
        ReleaseLicenseRequest {
            name: license.clone(),
            ..ReleaseLicenseRequest::default()
        }
    );
    request!(
        "LicenseService",
        "DeleteLicense",
        DeleteLicenseRequest {
            name: license.clone(),
            ..DeleteLicenseRequest::default()
        }
    );
    request!(
        "PortalService",
        "SignIn",
        SignInRequest {
            activation_email: format!("sales@office.{id}.users.octroi.example"),
            password: CHOSEN.to_owned(),
            ..SignInRequest::default()
        }
    );
    request!("PortalService", "SignOut", SignOutRequest {});
    request!(
        "PortalService",
        "ChangeOwnPassword",
        ChangeOwnPasswordRequest {
            current_password: CHOSEN.to_owned(),
            new_password: "Amber-Lantern-8".to_owned(),
            ..ChangeOwnPasswordRequest::default()
        }
    );
    request!("PortalService", "ListInstallers", ListInstallersRequest {});
    request!("PortalService", "RegisterDevice", device());
    request!(
        "PortalService",
        "ListOwnDevices",
        ListOwnDevicesRequest::default()
    );
    request!(
        "PortalService",
        "DeactivateOwnDevice",
        DeactivateOwnDeviceRequest {
            name: format!("{license}/devices/{}", known.device),
            ..DeactivateOwnDeviceRequest::default()
        }
    );
    all
}

fn billing_requests(id: &str, known: &Known) -> Vec<(&'static str, Vec<u8>)> {
    let parent = format!("accounts/{id}");
    let mut all = Vec::new();
    macro_rules! request {
        ($service:literal, $method:literal, $message:expr) => {
            let path = concat!("/octroi.billing.v1.", $service, "/", $method);
            all.push((path, $message.encode_to_vec()));
        };
    }
    use billing::*;
    request!(
        "AccountService",
        "CreateAccount",
        CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(account("Acme")),
            ..CreateAccountRequest::default()
        }
    );
    request!(
        "AccountService",
        "GetAccount",
        GetAccountRequest {
            name: parent.clone()
        }
    );
    request!(
        "AccountService",
        "ListAccounts",
        ListAccountsRequest::default()
    );
    request!(
        "AccountService",
        "UpdateAccount",
        UpdateAccountRequest {
            account: Some(Account {
                name: parent.clone(),
                legal_name: "Acme Holding".to_owned(),
                ..Account::default()
            }),
            update_mask: mask("legal_name"),
            ..UpdateAccountRequest::default()
        }
    );
    request!(
        "PaymentMethodService",
        "CreatePaymentMethod",
        CreatePaymentMethodRequest {
            parent: parent.clone(),
            payment_method: Some(method("test-success")),
            ..CreatePaymentMethodRequest::default()
        }
    );
    request!(
        "PaymentMethodService",
        "GetPaymentMethod",
        GetPaymentMethodRequest {
            name: format!("{parent}/paymentMethods/{}", known.payment_method),
        }
    );
    request!(
        "PaymentMethodService",
        "ListPaymentMethods",
        ListPaymentMethodsRequest {
            parent: parent.clone(),
            ..ListPaymentMethodsRequest::default()
        }
    );
    request!(
        "PaymentService",
        "GetPayment",
        GetPaymentRequest {
            name: format!("{parent}/payments/{}", known.payment),
        }
    );
    request!(
        "PaymentService",
        "ListPayments",
        ListPaymentsRequest {
            parent: parent.clone(),
            ..ListPaymentsRequest::default()
        }
    );
    request!(
        "InvoiceService",
        "GetInvoice",
        GetInvoiceRequest {
            name: format!("{parent}/invoices/{}", known.invoice),
        }
    );
    request!(
        "InvoiceService",
        "ListInvoices",
        ListInvoicesRequest {
            parent: parent.clone(),
            ..ListInvoicesRequest::default()
        }
    );
    request!(
        "InvoiceService",
        "ListInvoiceLines",
        ListInvoiceLinesRequest {
            parent: format!("{parent}/invoices/{}", known.invoice),
            ..ListInvoiceLinesRequest::default()
        }
    );
    request!(
        "InvoiceService",
        "PreviewInvoice",
        PreviewInvoiceRequest {
            parent: parent.clone(),
            month: "2026-02".to_owned(),
        }
    );
    request!(
        "BillRunService",
        "CreateBillRun",
        CreateBillRunRequest {
            bill_run: Some(BillRun {
                month: "2026-01".to_owned(),
                ..BillRun::default()
            }),
            ..CreateBillRunRequest::default()
        }
    );
    request!(
        "BillRunService",
        "GetBillRun",
        GetBillRunRequest {
            name: "billRuns/none".to_owned(),
        }
    );
    request!(
        "BillRunService",
        "ListBillRuns",
        ListBillRunsRequest::default()
    );
    request!(
        "SettlementService",
        "QuoteOrder",
        QuoteOrderRequest {
            account: parent.clone(),
            lines: vec![QuotedLine {
                offer: BUSINESS.to_owned(),
                quantity: 1,
            }],
            ..QuoteOrderRequest::default()
        }
    );
    request!(
        "SettlementService",
        "SettleOrder",
        SettleOrderRequest {
            order: format!("{parent}/orders/office"),
            attempt: 1,
            ..SettleOrderRequest::default()
        }
    );
    all
}

fn other_requests(id: &str, known: &Known) -> Vec<(&'static str, Vec<u8>)> {
    let parent = format!("accounts/{id}");
    let email = notification::GetEmailRequest {
        name: format!("{parent}/emails/{}", known.email),
    };
    let emails = notification::ListEmailsRequest {
        parent: parent.clone(),
        ..notification::ListEmailsRequest::default()
    };
    let events = event::ListEventsRequest {
        parent,
        ..event::ListEventsRequest::default()
    };
    let deliver = event::DeliverEventsRequest {
        source: "billing".to_owned(),
        ..event::DeliverEventsRequest::default()
    };
    let advance = testing::AdvanceClockRequest {
        duration: Some(prost_types::Duration::default()),
    };
    let set = testing::SetClockRequest {
        time: Some(prost_types::Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
    };
    let get = testing::GetClockRequest {};
    vec![
        (
            "/octroi.notification.v1.EmailService/GetEmail",
            email.encode_to_vec(),
        ),
        (
            "/octroi.notification.v1.EmailService/ListEmails",
            emails.encode_to_vec(),
        ),
        (
            "/octroi.event.v1.EventService/ListEvents",
            events.encode_to_vec(),
        ),
        (
            "/octroi.event.v1.EventIntakeService/DeliverEvents",
            deliver.encode_to_vec(),
        ),
        (
            "/octroi.testing.v1.ClockService/GetClock",
            get.encode_to_vec(),
        ),
        (
            "/octroi.testing.v1.ClockService/SetClock",
            set.encode_to_vec(),
        ),
        (
            "/octroi.testing.v1.ClockService/AdvanceClock",
            advance.encode_to_vec(),
        ),
    ]
}

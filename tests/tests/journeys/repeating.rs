//! Repeating a call: the same `request_id` sent 64 times at once has one effect and one answer.

use std::collections::{BTreeMap, BTreeSet};

use octroi_api::METHODS;
use octroi_api::billing::v1::{
    Account, BillRun, CreateAccountRequest, CreateBillRunRequest, CreatePaymentMethodRequest,
    UpdateAccountRequest,
};
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, CancelOrderRequest, CancelTerminationRequest, ChangeOwnPasswordRequest,
    ChangePasswordRequest, CreateOrderRequest, DeactivateOwnDeviceRequest, DeleteLicenseRequest,
    Device, License, LicenseGroup, LicenseUser, ListOwnDevicesRequest, Order, PayOrderRequest,
    Platform, RegisterDeviceRequest, ReleaseLicenseRequest, TerminateLicenseGroupRequest,
    TerminationReason, UpdateLicenseGroupRequest, UpdateLicenseRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Customer, Installation, Refused, account, lines, method,
    new_group, request_id, server,
};
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;

const TWINS: usize = 64;
/// What a body says that is another.
const OTHER: &str = "another body";

/// How a step of the story is told.
#[derive(Clone, Copy)]
enum Telling {
    /// Once.
    Once,
    /// 64 times at once, once more later, and once with another body.
    Often,
}

/// A life in which every method that changes something is called, each once.
struct Story<'a> {
    octroi: &'a Installation,
    customer: Customer,
    telling: Telling,
    told: BTreeSet<&'static str>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_times_at_once() {
    let octroi = Installation::start().await;
    let mut once = Story::new(&octroi, "once", Telling::Once);
    once.tell().await;
    let mut often = Story::new(&octroi, "often", Telling::Often);
    often.tell().await;
    octroi.drained().await;
    assert_eq!(
        effects(&octroi, "once").await,
        effects(&octroi, "often").await
    );
    assert_eq!(
        often.told,
        changing(),
        "every method that takes a request_id"
    );
    octroi.finish().await;
}

/// The methods whose request carries a request id.
fn changing() -> BTreeSet<&'static str> {
    let pool = prost_reflect::DescriptorPool::decode(octroi_api::DESCRIPTORS).unwrap();
    let methods = pool.services().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods
    });
    let changing: BTreeSet<String> = methods
        .filter(|method| method.input().get_field_by_name("request_id").is_some())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    METHODS
        .iter()
        .map(|method| method.path)
        .filter(|path| changing.contains(*path))
        .collect()
}

/// Everything that an account's calls have left, counted: facts, audit rows and what was answered to whom.
async fn effects(octroi: &Installation, account: &str) -> BTreeMap<String, i64> {
    let mut effects = BTreeMap::new();
    for schema in ["licensing", "billing", "notification"] {
        for (table, kind) in [
            ("event", "type"),
            ("audit", "method"),
            ("idempotency", "method"),
        ] {
            let count = format!(
                "SELECT {kind}, count(*) FROM {schema}.{table} WHERE account = $1 GROUP BY {kind}"
            );
            for row in octroi.sql.query(&count, &[&account]).await.unwrap() {
                let key = format!("{schema}.{table} {}", row.get::<_, String>(0));
                effects.insert(key, row.get(1));
            }
        }
    }
    effects
}

impl<'a> Story<'a> {
    fn new(octroi: &'a Installation, id: &str, telling: Telling) -> Self {
        let customer = Customer {
            id: id.to_owned(),
            by: octroi.operator(),
        };
        Self {
            octroi,
            customer,
            telling,
            told: BTreeSet::new(),
        }
    }

    /// One call, or many that must come to the same.
    async fn step<M: Message + Clone + Default>(
        &mut self,
        by: &Caller,
        path: &'static str,
        request: M,
        set: fn(&mut M, String),
        alter: fn(&mut M),
    ) {
        let id = request_id();
        let mut same = request.clone();
        set(&mut same, id.clone());
        let service = server(METHODS.iter().find(|method| method.path == path).unwrap());
        self.told.insert(path);
        let message = same.encode_to_vec();
        if matches!(self.telling, Telling::Once) {
            by.call(service, path, message).await.got();
            return;
        }
        let mut twins = JoinSet::new();
        for _ in 0..TWINS {
            let (by, message) = (by.clone(), message.clone());
            twins.spawn(async move { by.call(service, path, message).await });
        }
        let mut answers = BTreeSet::new();
        while let Some(answer) = twins.join_next().await {
            let answer = answer.unwrap();
            answers.insert(
                answer
                    .unwrap_or_else(|status| panic!("{path}: {status:?}"))
                    .into_inner(),
            );
        }
        assert_eq!(answers.len(), 1, "{path} answered differently");
        let later = by.call(service, path, message).await.got();
        assert!(answers.contains(&later), "{path} answers differently later");
        let mut other = same;
        alter(&mut other);
        let status = by
            .call(service, path, other.encode_to_vec())
            .await
            .unwrap_err();
        let refused = Refused::of(&status);
        assert_eq!(
            (refused.code, &*refused.reason),
            (Code::InvalidArgument, "REQUEST_ID_REUSED"),
            "{path} {OTHER}: {refused:?}"
        );
        assert_eq!(refused.fields, ["request_id"], "{path}");
    }

    async fn tell(&mut self) {
        self.account().await;
        self.orders().await;
        self.group().await;
        self.license().await;
        self.portal().await;
        self.end().await;
    }

    async fn account(&mut self) {
        let by = self.customer.by.clone();
        let create = CreateAccountRequest {
            account_id: self.customer.id.clone(),
            account: Some(account("Acme")),
            ..CreateAccountRequest::default()
        };
        self.step(
            &by,
            "/octroi.billing.v1.AccountService/CreateAccount",
            create,
            |message, id| message.request_id = id,
            |message| message.account.as_mut().unwrap().legal_name = OTHER.to_owned(),
        )
        .await;
        let update = UpdateAccountRequest {
            account: Some(Account {
                name: self.customer.name(),
                contact_email: "new@acme.test".to_owned(),
                ..Account::default()
            }),
            update_mask: mask("contact_email"),
            ..UpdateAccountRequest::default()
        };
        self.step(
            &by,
            "/octroi.billing.v1.AccountService/UpdateAccount",
            update,
            |message, id| message.request_id = id,
            |message| {
                message.account.as_mut().unwrap().contact_email = "other@acme.test".to_owned()
            },
        )
        .await;
        let pay = CreatePaymentMethodRequest {
            parent: self.customer.name(),
            payment_method: Some(method("test-success")),
            ..CreatePaymentMethodRequest::default()
        };
        self.step(
            &by,
            "/octroi.billing.v1.PaymentMethodService/CreatePaymentMethod",
            pay,
            |message, id| message.request_id = id,
            |message| message.make_default = true,
        )
        .await;
    }

    async fn orders(&mut self) {
        let by = self.customer.by.clone();
        let create = CreateOrderRequest {
            parent: self.customer.name(),
            order_id: "o1".to_owned(),
            order: Some(Order {
                new_group: Some(new_group("office")),
                lines: lines(&[(BUSINESS, 5)]),
                ..Order::default()
            }),
            ..CreateOrderRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.OrderService/CreateOrder",
            create,
            |message, id| message.request_id = id,
            |message| message.order.as_mut().unwrap().lines[0].quantity = 6,
        )
        .await;
        let pay = PayOrderRequest {
            name: self.customer.order_name("o1"),
            ..PayOrderRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.OrderService/PayOrder",
            pay,
            |message, id| message.request_id = id,
            |message| message.new_payment_method = Some(method("test-success")),
        )
        .await;
        self.customer
            .asks_for_more("o2", "office", &[(BUSINESS, 1)])
            .await
            .got();
        let cancel = CancelOrderRequest {
            name: self.customer.order_name("o2"),
            ..CancelOrderRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.OrderService/CancelOrder",
            cancel,
            |message, id| message.request_id = id,
            |message| message.etag = "7".to_owned(),
        )
        .await;
    }

    async fn group(&mut self) {
        let by = self.customer.by.clone();
        let name = self.customer.group_name("office");
        let update = UpdateLicenseGroupRequest {
            license_group: Some(LicenseGroup {
                name: name.clone(),
                display_name: "Head office".to_owned(),
                ..LicenseGroup::default()
            }),
            update_mask: mask("display_name"),
            ..UpdateLicenseGroupRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseGroupService/UpdateLicenseGroup",
            update,
            |message, id| message.request_id = id,
            |message| message.license_group.as_mut().unwrap().display_name = OTHER.to_owned(),
        )
        .await;
        let terminate = TerminateLicenseGroupRequest {
            name: name.clone(),
            reasons: vec![TerminationReason::NotNeeded.into()],
            at_period_end: true,
            ..TerminateLicenseGroupRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseGroupService/TerminateLicenseGroup",
            terminate,
            |message, id| message.request_id = id,
            |message| message.at_period_end = false,
        )
        .await;
        let cancel = CancelTerminationRequest {
            name,
            ..CancelTerminationRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseGroupService/CancelTermination",
            cancel,
            |message, id| message.request_id = id,
            |message| message.etag = "7".to_owned(),
        )
        .await;
    }

    async fn license(&mut self) {
        let by = self.customer.by.clone();
        let name = self.customer.license_name("office", 1);
        let activate = ActivateLicenseRequest {
            password: String::new(),
            ..self.customer.activation("office", 1, "sales")
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseService/ActivateLicense",
            activate,
            |message, id| message.request_id = id,
            |message| message.password = CHOSEN.to_owned(),
        )
        .await;
        let update = UpdateLicenseRequest {
            license: Some(License {
                name: name.clone(),
                user: Some(LicenseUser {
                    first_name: "Night".to_owned(),
                    last_name: "Desk".to_owned(),
                }),
                ..License::default()
            }),
            update_mask: mask("user"),
            ..UpdateLicenseRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseService/UpdateLicense",
            update,
            |message, id| message.request_id = id,
            |message| {
                message
                    .license
                    .as_mut()
                    .unwrap()
                    .user
                    .as_mut()
                    .unwrap()
                    .last_name = OTHER.to_owned()
            },
        )
        .await;
        let change = ChangePasswordRequest {
            name,
            password: CHOSEN.to_owned(),
            ..ChangePasswordRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseService/ChangePassword",
            change,
            |message, id| message.request_id = id,
            |message| message.password = "Green-Lantern-7".to_owned(),
        )
        .await;
    }

    async fn portal(&mut self) {
        let address = format!("sales@office.{}.users.octroi.example", self.customer.id);
        let user = self.customer.user(&address, CHOSEN).await;
        let change = ChangeOwnPasswordRequest {
            current_password: CHOSEN.to_owned(),
            new_password: "Green-Lantern-7".to_owned(),
            ..ChangeOwnPasswordRequest::default()
        };
        self.step(
            &user,
            "/octroi.licensing.v1.PortalService/ChangeOwnPassword",
            change,
            |message, id| message.request_id = id,
            |message| message.new_password = "Amber-Lantern-8".to_owned(),
        )
        .await;
        let register = RegisterDeviceRequest {
            device: Some(Device {
                platform: Platform::Windows.into(),
                display_name: "A machine".to_owned(),
                ..Device::default()
            }),
            ..RegisterDeviceRequest::default()
        };
        self.step(
            &user,
            "/octroi.licensing.v1.PortalService/RegisterDevice",
            register,
            |message, id| message.request_id = id,
            |message| message.device.as_mut().unwrap().display_name = OTHER.to_owned(),
        )
        .await;
        let list = ListOwnDevicesRequest::default();
        let devices = user.portal().list_own_devices(list).await.got().devices;
        let [device] = devices.as_slice() else {
            panic!("one device: {devices:?}");
        };
        let deactivate = DeactivateOwnDeviceRequest {
            name: device.name.clone(),
            ..DeactivateOwnDeviceRequest::default()
        };
        self.step(
            &user,
            "/octroi.licensing.v1.PortalService/DeactivateOwnDevice",
            deactivate,
            |message, id| message.request_id = id,
            |message| {
                let device = message.name.rfind('/').unwrap();
                message.name.truncate(device + 1);
                message
                    .name
                    .push_str("01890000-0000-7000-8000-000000000000");
            },
        )
        .await;
    }

    async fn end(&mut self) {
        let by = self.customer.by.clone();
        let release = ReleaseLicenseRequest {
            name: self.customer.license_name("office", 1),
            ..ReleaseLicenseRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseService/ReleaseLicense",
            release,
            |message, id| message.request_id = id,
            |message| message.etag = "7".to_owned(),
        )
        .await;
        let delete = DeleteLicenseRequest {
            name: self.customer.license_name("office", 2),
            ..DeleteLicenseRequest::default()
        };
        self.step(
            &by,
            "/octroi.licensing.v1.LicenseService/DeleteLicense",
            delete,
            |message, id| message.request_id = id,
            |message| message.etag = "7".to_owned(),
        )
        .await;
        let run = CreateBillRunRequest {
            bill_run: Some(BillRun {
                month: "2026-01".to_owned(),
                dry_run: true,
                ..BillRun::default()
            }),
            ..CreateBillRunRequest::default()
        };
        self.step(
            &by,
            "/octroi.billing.v1.BillRunService/CreateBillRun",
            run,
            |message, id| message.request_id = id,
            |message| message.bill_run.as_mut().unwrap().dry_run = false,
        )
        .await;
        let runs = "SELECT count(*) FROM billing.bill_run";
        let runs: i64 = self.octroi.sql.query_one(runs, &[]).await.unwrap().get(0);
        let before = i64::from(matches!(self.telling, Telling::Often));
        assert_eq!(runs, before + 1, "one run each");
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: vec![path.to_owned()],
    })
}

/// A refusal that wrote nothing is not remembered: what was wrong may be put right and tried again under the same id.
/// An attempt to pay for want of a method is one that was made.
#[tokio::test]
async fn a_refusal_may_be_tried_again() {
    let octroi = Installation::start().await;
    let acme = octroi.newcomer("acme").await;
    let pay = || PayOrderRequest {
        name: acme.order_name("o1"),
        request_id: request_id(),
        ..PayOrderRequest::default()
    };
    let (first, second) = (pay(), pay());
    let refused = acme.by.orders().pay_order(second.clone()).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let refused = acme.by.orders().pay_order(first.clone()).await.refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_METHOD_MISSING");
    acme.pays_with("test-success").await;
    let refused = acme.by.orders().pay_order(first).await.refused();
    refused.is(Code::FailedPrecondition, "PAYMENT_METHOD_MISSING");
    let paid = acme.by.orders().pay_order(second).await.got();
    assert_eq!(paid.payment_attempts, 2);
    let mut taken = acme.activation("office", 1, "x");
    taken.request_id = request_id();
    acme.by
        .licenses()
        .activate_license(taken.clone())
        .await
        .refused();
    taken.activation_email = "sales".to_owned();
    acme.by.licenses().activate_license(taken).await.got();
    octroi.finish().await;
}

/// The same id means nothing to another account, and nothing to another method.
#[tokio::test]
async fn an_id_belongs_to_its_account_and_method() {
    let octroi = Installation::start().await;
    let id = request_id();
    for name in ["acme", "other"] {
        let customer = octroi.newcomer(name).await;
        let put = CreatePaymentMethodRequest {
            parent: customer.name(),
            payment_method: Some(method("test-success")),
            request_id: id.clone(),
            ..CreatePaymentMethodRequest::default()
        };
        customer
            .by
            .payment_methods()
            .create_payment_method(put)
            .await
            .got();
        let create = CreateOrderRequest {
            parent: customer.name(),
            order_id: "o1".to_owned(),
            order: Some(Order {
                new_group: Some(new_group("office")),
                lines: lines(&[(BUSINESS, 1)]),
                ..Order::default()
            }),
            request_id: id.clone(),
            ..CreateOrderRequest::default()
        };
        customer.by.orders().create_order(create).await.got();
        let pay = PayOrderRequest {
            name: customer.order_name("o1"),
            request_id: id.clone(),
            ..PayOrderRequest::default()
        };
        customer.by.orders().pay_order(pay).await.got();
    }
    octroi.finish().await;
}

//! Somebody who orders, pays and activates without a pause. What was not answered is asked again, by the same request
//! id, of whoever serves then.

use std::collections::{BTreeSet, VecDeque};

use octroi_api::licensing::v1::{
    ActivateLicenseRequest, CreateOrderRequest, Order, PayOrderRequest, license, order,
};
use octroi_tests::harness::{
    BUSINESS, Caller, Customer, Refused, lines, method, new_group, request_id,
};
use tokio_postgres::Client;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::chance::Chance;
use crate::stored::names;

/// What the next order is paid with: mostly with what is good.
const METHODS: [&str; 10] = [
    "test-success",
    "test-success",
    "test-success",
    "test-success",
    "test-success",
    "test-success",
    "test-processing",
    "test-timeout-then-success",
    "test-timeout-then-decline",
    "test-decline-card-expired",
];
/// Licences of an order; all of them are activated.
const SEATS: i32 = 2;

#[derive(Clone)]
enum Step {
    Create(Box<CreateOrderRequest>),
    Pay(PayOrderRequest),
    Activate(ActivateLicenseRequest),
}

/// What an answer means for the one who asked.
enum Heard {
    /// It was done.
    Done,
    /// It was refused for good; what would follow cannot be.
    Refused,
    /// Nobody knows.
    Lost(Status),
}

/// Who buys, two for an account.
const SHOPPERS: usize = 6;

/// Opens the accounts of everybody who will buy.
pub async fn open_accounts(by: &Caller) -> Vec<Shopper> {
    let mut shoppers = Vec::new();
    for number in 0..SHOPPERS {
        let id = format!("acme-{}", number / 2);
        if number % 2 == 0 {
            Customer::newcomer(by.clone(), &id).await;
        }
        shoppers.push(Shopper::new(&id, &format!("s{number}")));
    }
    shoppers
}

/// Nothing that was answered is lost.
pub async fn kept(sql: &Client, shoppers: &[Shopper]) {
    let completed = names(
        sql,
        "SELECT format('accounts/%s/orders/%s', account, order_id)
         FROM licensing.license_order WHERE state = 'COMPLETED'",
    );
    let completed = completed.await;
    let active = names(
        sql,
        "SELECT format('accounts/%s/licenseGroups/%s/licenses/%s', account, group_id, number)
         FROM licensing.license WHERE state = 'ACTIVE'",
    );
    let active = active.await;
    for shopper in shoppers {
        for (answered, stored) in [(&shopper.completed, &completed), (&shopper.active, &active)] {
            let lost: Vec<_> = answered.difference(stored).collect();
            assert!(lost.is_empty(), "answered and lost: {lost:?}");
        }
    }
}

/// Somebody who orders, pays and activates.
pub struct Shopper {
    account: String,
    name: String,
    orders: u32,
    steps: VecDeque<Step>,
    /// The orders that were said to be completed.
    pub completed: BTreeSet<String>,
    /// The licences that were said to be active.
    pub active: BTreeSet<String>,
}

impl Shopper {
    /// Somebody who buys for an account; no other has the name.
    fn new(account: &str, name: &str) -> Self {
        Self {
            account: account.to_owned(),
            name: name.to_owned(),
            orders: 0,
            steps: VecDeque::new(),
            completed: BTreeSet::new(),
            active: BTreeSet::new(),
        }
    }

    /// Buys until an answer is lost, and gives what came in its place.
    pub async fn shops(&mut self, by: Caller, chance: &mut Chance) -> Status {
        loop {
            if self.steps.is_empty() {
                self.plan(&by, chance);
            }
            if let Some(status) = self.goes_on(&by).await {
                return status;
            }
        }
    }

    /// Finishes what is begun; no answer may be lost.
    pub async fn finishes(&mut self, by: &Caller) {
        while !self.steps.is_empty() {
            if let Some(status) = self.goes_on(by).await {
                panic!("{}: no answer: {status:?}", self.name);
            }
        }
    }

    fn plan(&mut self, by: &Caller, chance: &mut Chance) {
        let customer = Customer {
            id: self.account.clone(),
            by: by.clone(),
        };
        self.orders += 1;
        let id = format!("{}-{}", self.name, self.orders);
        self.steps
            .push_back(Step::Create(Box::new(CreateOrderRequest {
                parent: customer.name(),
                order_id: id.clone(),
                order: Some(Order {
                    new_group: Some(new_group(&id)),
                    lines: lines(&[(BUSINESS, SEATS)]),
                    ..Order::default()
                }),
                request_id: request_id(),
                ..CreateOrderRequest::default()
            })));
        self.steps.push_back(Step::Pay(PayOrderRequest {
            name: customer.order_name(&id),
            new_payment_method: Some(method(chance.one_of(&METHODS))),
            request_id: request_id(),
        }));
        for number in 1..=SEATS {
            let login = format!("user{number}");
            self.steps.push_back(Step::Activate(ActivateLicenseRequest {
                password: String::new(),
                request_id: request_id(),
                ..customer.activation(&id, number, &login)
            }));
        }
    }

    /// One step; the status that came in the place of an answer.
    async fn goes_on(&mut self, by: &Caller) -> Option<Status> {
        let step = self.steps.front()?.clone();
        match self.takes(by, step).await {
            Heard::Done => {
                self.steps.pop_front();
                None
            }
            Heard::Refused => {
                self.steps.clear();
                None
            }
            Heard::Lost(status) => Some(status),
        }
    }

    async fn takes(&mut self, by: &Caller, step: Step) -> Heard {
        match step {
            Step::Create(request) => match by.orders().create_order(*request).await {
                Ok(_) => Heard::Done,
                Err(status) => Heard::Lost(status),
            },
            Step::Pay(request) => match by.orders().pay_order(request).await {
                Ok(order) => {
                    let order = order.into_inner();
                    assert_eq!(order.state(), order::State::Completed);
                    self.completed.insert(order.name);
                    Heard::Done
                }
                Err(status) => match reason(&status).as_deref() {
                    Some("PAYMENT_DECLINED" | "PAYMENT_PROCESSING") => Heard::Refused,
                    _ => Heard::Lost(status),
                },
            },
            Step::Activate(request) => match by.licenses().activate_license(request).await {
                Ok(license) => {
                    let license = license.into_inner();
                    assert_eq!(license.state(), license::State::Active);
                    self.active.insert(license.name);
                    Heard::Done
                }
                Err(status) => Heard::Lost(status),
            },
        }
    }
}

/// The reason of a refusal of Octroi's; none of a connection that broke.
fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info()?;
    Some(Refused::of(status).reason)
}

/// Whether an answer was lost in the way that a process's end loses one, and not refused.
pub fn is_loss(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal | Code::Aborted
    )
}

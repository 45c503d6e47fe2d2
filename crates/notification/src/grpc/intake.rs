//! Reads other services' events as facts.

use std::sync::Arc;

use anyhow::Context as _;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{
    AccountChanged, Event, InvoiceIssued, LicenseActivated, OrderCompleted, PasswordChanged,
};
use octroi_api::r#type::v1::Money;
use octroi_platform::name::{Kind, Owned};
use octroi_platform::time::from_proto;
use octroi_platform::{AccountId, Applied, Error, Intake, Name as _, Tx};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::app;
use crate::domain::account::{Account, ZoneChange};
use crate::domain::content::{Group, Invoice, Login, Order, OrderLine};
use crate::domain::fact::{Fact, FactKind};
use crate::domain::locale::{Amount, Locale};

/// Applies the events of billing and licensing.
pub(crate) struct FactIntake {
    pub(crate) message_id_domain: String,
    /// Wakes who sends e-mails when it is idle.
    pub(crate) idle: Arc<Notify>,
    /// Wakes it when it is busy.
    pub(crate) busy: Arc<Notify>,
}

impl Intake for FactIntake {
    async fn apply(
        &self,
        tx: &mut Tx,
        event: &Event,
        payload: &Payload,
        secret: Option<&[u8]>,
    ) -> Result<Applied, Error> {
        let read = fact(event, payload)
            .with_context(|| format!("event {} of type {}", event.id, event.r#type));
        let Some(fact) = read.map_err(Error::Internal)? else {
            return Ok(Applied::NotForUs);
        };
        app::fact::apply(tx, &fact, secret, &self.message_id_domain).await?;
        Ok(Applied::Done)
    }

    fn applied(&self) {
        self.idle.notify_waiters();
        self.busy.notify_one();
    }
}

/// The fact of an event; none when it is not for notification.
fn fact(event: &Event, payload: &Payload) -> anyhow::Result<Option<Fact>> {
    let kind = match payload {
        Payload::AccountChanged(changed) => account_changed(changed).context("a zone's time")?,
        Payload::LicenseActivated(activated) => license_activated(activated),
        Payload::PasswordChanged(changed) => password_changed(changed),
        Payload::LicenseDeactivated(deactivated) => FactKind::LicenseDeactivated {
            license: license(&deactivated.license_group, deactivated.seat),
        },
        Payload::OrderCompleted(completed) => order_completed(completed).context("its order")?,
        Payload::LicenseGroupTerminated(terminated) => FactKind::GroupTerminated(Group {
            group: terminated.display_name.clone(),
            licenses: terminated.licenses,
        }),
        Payload::InvoiceIssued(issued) => invoice_issued(issued),
        Payload::PaymentSettled(_) | Payload::OrderCreated(_) | Payload::LicenseGroupChanged(_) => {
            return Ok(None);
        }
    };
    let account = AccountId::parse(&event.account).context("no account")?;
    let effective_at = event.effective_time.as_ref().and_then(from_proto);
    Ok(Some(Fact {
        account,
        event: Uuid::try_parse(&event.id).context("its id")?,
        effective_at: effective_at.context("no effective time")?,
        kind,
    }))
}

fn account_changed(changed: &AccountChanged) -> Option<FactKind> {
    let zones = changed
        .zones
        .iter()
        .map(|zone| {
            Some(ZoneChange {
                time_zone: zone.time_zone.clone(),
                time: zone.time.as_ref().and_then(from_proto)?,
            })
        })
        .collect::<Option<_>>()?;
    let previous = &changed.previous_contact_email;
    Some(FactKind::AccountChanged {
        account: Account {
            version: changed.version,
            contact_email: changed.contact_email.clone(),
            locale: Locale::of(&changed.locale),
            legal_name: changed.legal_name.clone(),
            zones,
        },
        previous_contact: (!previous.is_empty()).then(|| previous.clone()),
    })
}

fn license_activated(activated: &LicenseActivated) -> FactKind {
    FactKind::LicenseActivated {
        license: license(&activated.license_group, activated.seat),
        login: Login {
            offer: activated.offer_display_name.clone(),
            activation_email: activated.activation_email.clone(),
            user: activated.user_display_name.clone(),
        },
    }
}

fn password_changed(changed: &PasswordChanged) -> FactKind {
    FactKind::PasswordChanged {
        license: license(&changed.license_group, changed.seat),
        mailed: changed.mailed.then(|| Login {
            offer: changed.offer_display_name.clone(),
            activation_email: changed.activation_email.clone(),
            user: String::new(),
        }),
    }
}

/// Orders, which are licensing's.
enum OrderKind {}

impl Kind for OrderKind {
    type Id = String;
    const KIND: &'static str = "order";
    const COLLECTION: &'static str = "orders";
}

fn order_completed(completed: &OrderCompleted) -> Option<FactKind> {
    let order = Owned::<OrderKind>::parse(&completed.order)?;
    Some(FactKind::OrderCompleted(Order {
        order: order.id,
        group: completed.group_display_name.clone(),
        new_group: completed.new_group,
        lines: completed
            .lines
            .iter()
            .map(|line| OrderLine {
                offer: line.offer_display_name.clone(),
                quantity: line.quantity,
            })
            .collect(),
        due_now: completed.due_now.as_ref().map(amount),
    }))
}

fn invoice_issued(issued: &InvoiceIssued) -> FactKind {
    FactKind::InvoiceIssued(Invoice {
        number: issued.number.clone(),
        total: issued.total.as_ref().map(amount),
        month: issued.month.clone(),
        issue_date: issued.issue_date.clone(),
        due_date: issued.due_date.clone(),
    })
}

fn license(group: &str, seat: i32) -> String {
    format!("{group}/licenses/{seat}")
}

fn amount(money: &Money) -> Amount {
    Amount {
        currency: money.currency_code.clone(),
        decimal: money.amount.clone(),
    }
}

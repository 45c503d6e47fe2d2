//! The inbox consumer for billing's events.

use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use octroi_platform::{AccountId, Applied, Error, Intake, Name as _, Tx};

use crate::billing::account_of;
use crate::store;

/// Stores the account snapshots that billing publishes.
pub(crate) struct LicensingIntake;

impl Intake for LicensingIntake {
    async fn apply(
        &self,
        tx: &mut Tx,
        event: &Event,
        payload: &Payload,
        _secret: Option<&[u8]>,
    ) -> Result<Applied, Error> {
        match payload {
            Payload::AccountChanged(changed) => {
                let account = AccountId::parse(&event.account)
                    .and_then(|id| account_of(id, changed.clone()))
                    .ok_or_else(|| {
                        let what = "billing sent an account that is not valid";
                        Error::Internal(anyhow::anyhow!(what))
                    })?;
                store::account::save(tx, account);
                Ok(Applied::Done)
            }
            Payload::InvoiceIssued(_)
            | Payload::PaymentSettled(_)
            | Payload::OrderCreated(_)
            | Payload::OrderCompleted(_)
            | Payload::LicenseGroupChanged(_)
            | Payload::LicenseActivated(_)
            | Payload::LicenseDeactivated(_)
            | Payload::PasswordChanged(_)
            | Payload::LicenseGroupTerminated(_) => Ok(Applied::NotForUs),
        }
    }
}

//! What billing tells.

use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use octroi_platform::{Applied, Error, Intake, Tx, name};

use crate::billing::account_of;
use crate::store;

/// Takes billing's events: the account's snapshot is kept, what else billing tells is of no concern here.
pub(crate) struct LicensingIntake;

impl Intake for LicensingIntake {
    async fn apply(
        &self,
        tx: &mut Tx,
        _source: &str,
        event: &Event,
        _secret: Option<&[u8]>,
    ) -> Result<Applied, Error> {
        match &event.payload {
            Some(Payload::AccountChanged(changed)) => {
                let id = name::account_of(&event.account);
                let account = account_of(id, changed.clone()).ok_or_else(|| {
                    Error::Internal(anyhow::anyhow!("billing told an account that cannot be"))
                })?;
                store::account::keep(tx, account);
                Ok(Applied::Done)
            }
            Some(Payload::InvoiceIssued(_) | Payload::PaymentSettled(_)) => Ok(Applied::Done),
            _ => Ok(Applied::Unknown),
        }
    }
}

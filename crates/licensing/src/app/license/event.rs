//! The events of a licence.

use jiff::Timestamp;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::license_deactivated::Cause;
use octroi_api::event::v1::{LicenseActivated, LicenseDeactivated, PasswordChanged};
use octroi_platform::NewEvent;

use crate::domain::license::{License, LicenseId};
use crate::domain::offer::OfferId;
use crate::refusal::Refusal;

/// The event of a seat whose usage ended. The caller holds the licence's row lock.
pub(crate) fn deactivated(
    id: &LicenseId,
    offer: &OfferId,
    cause: Cause,
    at: Timestamp,
) -> NewEvent {
    NewEvent::new(
        id.group.account.as_str(),
        id.to_string(),
        at,
        Payload::LicenseDeactivated(LicenseDeactivated {
            license_group: id.group.to_string(),
            seat: id.number,
            offer: offer.to_string(),
            cause: cause.into(),
        }),
    )
}

pub(crate) fn password_changed(
    license: &License,
    mailed: bool,
    at: Timestamp,
) -> Result<NewEvent, Refusal> {
    let id = &license.id;
    Ok(NewEvent::new(
        id.group.account.as_str(),
        id.to_string(),
        at,
        Payload::PasswordChanged(PasswordChanged {
            license_group: id.group.to_string(),
            seat: id.number,
            activation_email: email(license)?,
            offer_display_name: license.offer_display_name.clone(),
            mailed,
        }),
    ))
}

pub(super) fn activated(
    license: &License,
    generated: bool,
    at: Timestamp,
) -> Result<NewEvent, Refusal> {
    let id = &license.id;
    Ok(NewEvent::new(
        id.group.account.as_str(),
        id.to_string(),
        at,
        Payload::LicenseActivated(LicenseActivated {
            license_group: id.group.to_string(),
            seat: id.number,
            offer: license.offer.to_string(),
            offer_display_name: license.offer_display_name.clone(),
            activation_email: email(license)?,
            user_display_name: license.assignment()?.user.display_name(),
            password_generated: generated,
        }),
    ))
}

/// The address of a licence that has a user.
fn email(license: &License) -> Result<String, Refusal> {
    let assignment = license.assignment()?;
    Ok(assignment.activation_email.as_str().to_owned())
}

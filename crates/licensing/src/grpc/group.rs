//! LicenseGroupService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::license_group_service_server::LicenseGroupService;
use octroi_calendar::Month;
use octroi_platform::refusal::MISSING;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Fields, Page, Violations, answer, command, open};
use tonic::{Request, Response};

use crate::app::group::{Change, Groups};
use crate::app::usage::Usages;
use crate::domain::group::{BillingMode, Group, GroupId, Seats, State};
use crate::domain::termination::{Reason, Termination, TerminationRequest};
use crate::grpc::{check_name, check_text};

const LONGEST_TEXT: usize = 1000;
const REASON: &str = "TERMINATION_REASON_";

pub(crate) struct GroupApi {
    pub(crate) groups: Groups,
    pub(crate) usages: Usages,
}

#[tonic::async_trait]
impl LicenseGroupService for GroupApi {
    async fn get_license_group(
        &self,
        request: Request<wire::GetLicenseGroupRequest>,
    ) -> Answer<wire::LicenseGroup> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<GroupId>("name", &it.name)
        })?;
        let group = self.groups.get(&call, &id).await?;
        Ok(Response::new((&group).into()))
    }

    async fn list_license_groups(
        &self,
        request: Request<wire::ListLicenseGroupsRequest>,
    ) -> Answer<wire::ListLicenseGroupsResponse> {
        let (call, account, page) = Page::open(request, |it, fields| {
            fields.name::<AccountId>("parent", &it.parent)
        })?;
        let groups = self.groups.list(&call, &account, &page).await?;
        let (license_groups, next_page_token) =
            page.cut(groups, |it| it.id.id.clone(), |it| (&it).into());
        Ok(Response::new(wire::ListLicenseGroupsResponse {
            license_groups,
            next_page_token,
        }))
    }

    async fn update_license_group(
        &self,
        request: Request<wire::UpdateLicenseGroupRequest>,
    ) -> Answer<wire::LicenseGroup> {
        let (call, (id, etag, change)) = command(request, |it, fields| {
            let given = fields.given("license_group", it.license_group);
            let id = fields.name::<GroupId>("license_group.name", &given.name);
            let paths = fields.mask(it.update_mask.as_ref(), &["display_name", "auto_renew"]);
            let change = change(&given, &paths, fields);
            Some((id?, given.etag, change))
        })?;
        answer(self.groups.update(&call, &id, &etag, change).await)
    }

    async fn terminate_license_group(
        &self,
        request: Request<wire::TerminateLicenseGroupRequest>,
    ) -> Answer<wire::LicenseGroup> {
        let (call, (id, etag, asked, at_period_end)) = command(request, |it, fields| {
            let id = fields.name::<GroupId>("name", &it.name);
            let (etag, at_period_end) = (it.etag.clone(), it.at_period_end);
            let asked = termination_request(it, fields);
            Some((id?, etag, asked, at_period_end))
        })?;
        let groups = &self.groups;
        answer(
            groups
                .terminate(&call, &id, &etag, asked, at_period_end)
                .await,
        )
    }

    async fn cancel_termination(
        &self,
        request: Request<wire::CancelTerminationRequest>,
    ) -> Answer<wire::LicenseGroup> {
        let (call, (id, etag)) = command(request, |it, fields| {
            Some((fields.name::<GroupId>("name", &it.name)?, it.etag))
        })?;
        answer(self.groups.cancel_termination(&call, &id, &etag).await)
    }

    async fn query_usage(
        &self,
        request: Request<wire::QueryUsageRequest>,
    ) -> Answer<wire::QueryUsageResponse> {
        let (call, (id, month)) = open(request, |it, fields| {
            let id = fields.name::<GroupId>("name", &it.name);
            id.zip(fields.check("month", it.month.parse::<Month>()))
        })?;
        let (span, offers) = self.usages.query(&call, &id, month).await?;
        Ok(Response::new(wire::QueryUsageResponse {
            month: month.to_string(),
            start_time: Some(to_proto(span.start)),
            end_time: Some(to_proto(span.end)),
            offers: offers.iter().map(Into::into).collect(),
        }))
    }
}

fn change(given: &wire::LicenseGroup, paths: &[String], violations: &mut Violations) -> Change {
    let mut change = Change::default();
    for path in paths {
        match path.as_str() {
            "display_name" => {
                let field = "license_group.display_name";
                check_name(field, &given.display_name, violations);
                change.display_name = Some(given.display_name.clone());
            }
            "auto_renew" => {
                if given.auto_renew.is_none() {
                    violations.add("license_group.auto_renew", MISSING);
                }
                change.auto_renew = given.auto_renew;
            }
            _ => {}
        }
    }
    change
}

fn termination_request(
    request: wire::TerminateLicenseGroupRequest,
    fields: &mut Fields<'_>,
) -> TerminationRequest {
    if request.reasons.is_empty() {
        fields.add("reasons", "must name at least one reason");
    }
    let mut reasons = Vec::new();
    for (at, number) in request.reasons.iter().enumerate() {
        match reason(*number) {
            Some(reason) if reasons.contains(&reason) => {}
            Some(reason) => reasons.push(reason),
            None => fields.add(format!("reasons[{at}]"), one_of_the_reasons()),
        }
    }
    if reasons.contains(&Reason::Other) && request.comment.trim().is_empty() {
        fields.add("comment", "must be given with the reason OTHER");
    }
    check_text("future_use", &request.future_use, LONGEST_TEXT, fields);
    check_text("comment", &request.comment, LONGEST_TEXT, fields);
    TerminationRequest {
        reasons,
        future_use: request.future_use,
        comment: request.comment,
    }
}

fn one_of_the_reasons() -> String {
    format!(
        "must be one of {}",
        Reason::ALL.map(Reason::as_str).join(", ")
    )
}

/// The two spell every reason alike, but for the prefix.
fn reason(number: i32) -> Option<Reason> {
    let named = wire::TerminationReason::try_from(number).ok()?;
    Reason::parse(named.as_str_name().strip_prefix(REASON)?)
}

fn reason_to_wire(reason: Reason) -> i32 {
    let name = format!("{REASON}{}", reason.as_str());
    wire::TerminationReason::from_str_name(&name)
        .unwrap_or_default()
        .into()
}

impl From<&Group> for wire::LicenseGroup {
    fn from(group: &Group) -> Self {
        let state = match &group.state {
            State::Live {
                suspended: false, ..
            } => wire::license_group::State::Active,
            State::Live {
                suspended: true, ..
            } => wire::license_group::State::Suspended,
            State::Terminated(_) => wire::license_group::State::Terminated,
        };
        let billing_mode = match group.billing_mode {
            BillingMode::Postpaid => wire::BillingMode::Postpaid,
            BillingMode::Prepaid => wire::BillingMode::Prepaid,
        };
        Self {
            name: group.id.to_string(),
            display_name: group.display_name.clone(),
            state: state.into(),
            renewal_period: group.renewal_period.as_str().to_owned(),
            billing_mode: billing_mode.into(),
            auto_renew: Some(group.auto_renew),
            period_start_time: Some(to_proto(group.period.start)),
            period_end_time: Some(to_proto(group.period.end)),
            offers: group.seats.iter().map(Into::into).collect(),
            termination: group.state.termination().map(Into::into),
            create_time: Some(to_proto(group.created_at)),
            update_time: Some(to_proto(group.updated_at)),
            etag: group.version.to_string(),
        }
    }
}

impl From<&Seats> for wire::OfferSeats {
    fn from(seats: &Seats) -> Self {
        Self {
            offer: seats.offer.to_string(),
            licenses: seats.used,
            active: seats.active,
            reserved: seats.reserved,
            limit: seats.cap.unwrap_or_default(),
        }
    }
}

impl From<&Termination> for wire::Termination {
    fn from(termination: &Termination) -> Self {
        let reasons = termination.reasons.iter().copied();
        Self {
            reasons: reasons.map(reason_to_wire).collect(),
            future_use: termination.future_use.clone(),
            comment: termination.comment.clone(),
            effective_time: Some(to_proto(termination.at)),
            request_time: termination.requested_at.map(to_proto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_number_on_the_wire() {
        for ours in Reason::ALL {
            assert_eq!(reason(reason_to_wire(ours)), Some(ours));
        }
        assert_eq!(reason(0), None);
        assert_eq!(reason(99), None);
    }
}

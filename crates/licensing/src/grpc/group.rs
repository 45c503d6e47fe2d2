//! LicenseGroupService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::license_group_service_server::LicenseGroupService;
use octroi_calendar::Month;
use octroi_platform::event::to_proto;
use octroi_platform::{Call, Page, Violations, check_request_id};
use tonic::{Request, Response, Status};

use crate::app::group::{Change, Groups};
use crate::app::usage::Usages;
use crate::domain::group::{BillingMode, Farewell, Group, Reason, Seats, State, Termination};
use crate::domain::offer;
use crate::grpc::{check_name, check_text, ids, usage};

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
    ) -> Result<Response<wire::LicenseGroup>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let (account, id) = group_name("name", &request.name, &mut violations);
        violations.finish()?;
        let group = self.groups.get(&call, account, id).await?;
        Ok(Response::new(to_wire(&group)))
    }

    async fn list_license_groups(
        &self,
        request: Request<wire::ListLicenseGroupsRequest>,
    ) -> Result<Response<wire::ListLicenseGroupsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let parent = ids("parent", &request.parent, ["accounts"], &mut violations);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        violations.finish()?;
        let [account] = parent.unwrap_or_default();
        let groups = self.groups.list(&call, account, &page).await?;
        let (groups, next_page_token) =
            page.cut(groups, |group| group.id.clone(), |it| to_wire(&it));
        Ok(Response::new(wire::ListLicenseGroupsResponse {
            license_groups: groups,
            next_page_token,
        }))
    }

    async fn update_license_group(
        &self,
        request: Request<wire::UpdateLicenseGroupRequest>,
    ) -> Result<Response<wire::LicenseGroup>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        if request.license_group.is_none() {
            violations.add("license_group", "must be given");
        }
        let nothing = wire::LicenseGroup::default();
        let given = request.license_group.as_ref().unwrap_or(&nothing);
        let name = group_name("license_group.name", &given.name, &mut violations);
        let paths = request
            .update_mask
            .as_ref()
            .map_or(&[][..], |mask| &mask.paths);
        let change = change(given, paths, &mut violations);
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let group = self
            .groups
            .update(&call, name, &given.etag, change, to_wire)
            .await?;
        Ok(Response::new(group))
    }

    async fn terminate_license_group(
        &self,
        request: Request<wire::TerminateLicenseGroupRequest>,
    ) -> Result<Response<wire::LicenseGroup>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let name = group_name("name", &request.name, &mut violations);
        let farewell = farewell(&request, &mut violations);
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let how = (farewell, request.at_period_end);
        let group = self
            .groups
            .terminate(&call, name, &request.etag, how, to_wire)
            .await?;
        Ok(Response::new(group))
    }

    async fn cancel_termination(
        &self,
        request: Request<wire::CancelTerminationRequest>,
    ) -> Result<Response<wire::LicenseGroup>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let name = group_name("name", &request.name, &mut violations);
        violations.finish()?;
        let call = call.idempotent(&request_id, "", &request)?;
        let group = self
            .groups
            .cancel_termination(&call, name, &request.etag, to_wire)
            .await?;
        Ok(Response::new(group))
    }

    async fn query_usage(
        &self,
        request: Request<wire::QueryUsageRequest>,
    ) -> Result<Response<wire::QueryUsageResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let (account, id) = group_name("name", &request.name, &mut violations);
        let month: Option<Month> = violations.check("month", request.month.parse());
        violations.finish()?;
        let month = month.unwrap_or(Month {
            year: 1970,
            month: 1,
        });
        let (span, offers) = self.usages.query(&call, account, id, month).await?;
        Ok(Response::new(usage::to_wire(month, span, &offers)))
    }
}

fn group_name<'a>(field: &str, name: &'a str, violations: &mut Violations) -> (&'a str, &'a str) {
    let [account, group] =
        ids(field, name, ["accounts", "licenseGroups"], violations).unwrap_or_default();
    (account, group)
}

fn change(given: &wire::LicenseGroup, paths: &[String], violations: &mut Violations) -> Change {
    let mut change = Change::default();
    if paths.is_empty() {
        violations.add("update_mask", "must name the fields to change");
    }
    for path in paths {
        match path.as_str() {
            "display_name" => {
                let field = "license_group.display_name";
                check_name(field, &given.display_name, violations);
                change.display_name = Some(given.display_name.clone());
            }
            "auto_renew" => {
                if given.auto_renew.is_none() {
                    violations.add("license_group.auto_renew", "must be given");
                }
                change.auto_renew = given.auto_renew;
            }
            other => violations.add(
                "update_mask",
                format!("takes display_name and auto_renew, not {other:?}"),
            ),
        }
    }
    change
}

fn farewell(request: &wire::TerminateLicenseGroupRequest, violations: &mut Violations) -> Farewell {
    if request.reasons.is_empty() {
        violations.add("reasons", "must name at least one reason");
    }
    let mut reasons = Vec::new();
    for (at, number) in request.reasons.iter().enumerate() {
        match reason(*number) {
            Some(reason) if reasons.contains(&reason) => {}
            Some(reason) => reasons.push(reason),
            None => violations.add(format!("reasons[{at}]"), one_of_the_reasons()),
        }
    }
    if reasons.contains(&Reason::Other) && request.comment.trim().is_empty() {
        violations.add("comment", "must be given with the reason OTHER");
    }
    check_text("future_use", &request.future_use, LONGEST_TEXT, violations);
    check_text("comment", &request.comment, LONGEST_TEXT, violations);
    Farewell {
        reasons,
        future_use: request.future_use.clone(),
        comment: request.comment.clone(),
    }
}

fn one_of_the_reasons() -> String {
    format!(
        "must be one of {}",
        Reason::ALL.map(Reason::text).join(", ")
    )
}

/// The two spell every reason alike, but for the prefix.
fn reason(number: i32) -> Option<Reason> {
    let named = wire::TerminationReason::try_from(number).ok()?;
    Reason::of(named.as_str_name().strip_prefix(REASON)?)
}

fn reason_to_wire(reason: Reason) -> i32 {
    let name = format!("{REASON}{}", reason.text());
    wire::TerminationReason::from_str_name(&name)
        .unwrap_or_default()
        .into()
}

/// A group on the wire.
pub(crate) fn to_wire(group: &Group) -> wire::LicenseGroup {
    let (state, termination) = match &group.state {
        State::Live {
            suspended: false,
            ending,
        } => (wire::license_group::State::Active, ending.as_ref()),
        State::Live {
            suspended: true,
            ending,
        } => (wire::license_group::State::Suspended, ending.as_ref()),
        State::Terminated(termination) => {
            (wire::license_group::State::Terminated, Some(termination))
        }
    };
    let billing_mode = match group.billing_mode {
        BillingMode::Postpaid => wire::BillingMode::Postpaid,
        BillingMode::Prepaid => wire::BillingMode::Prepaid,
    };
    wire::LicenseGroup {
        name: group.name(),
        display_name: group.display_name.clone(),
        state: state.into(),
        renewal_period: group.renewal_period.text().to_owned(),
        billing_mode: billing_mode.into(),
        auto_renew: Some(group.auto_renew),
        period_start_time: Some(to_proto(group.period.start)),
        period_end_time: Some(to_proto(group.period.end)),
        offers: group.seats.iter().map(seats_to_wire).collect(),
        termination: termination.map(termination_to_wire),
        create_time: Some(to_proto(group.created_at)),
        update_time: Some(to_proto(group.updated_at)),
        etag: group.version.to_string(),
    }
}

fn seats_to_wire(seats: &Seats) -> wire::OfferSeats {
    wire::OfferSeats {
        offer: offer::name(&seats.offer),
        licenses: seats.used,
        active: seats.active,
        reserved: seats.reserved,
        limit: seats.cap.unwrap_or_default(),
    }
}

fn termination_to_wire(termination: &Termination) -> wire::Termination {
    wire::Termination {
        reasons: termination
            .reasons
            .iter()
            .copied()
            .map(reason_to_wire)
            .collect(),
        future_use: termination.future_use.clone(),
        comment: termination.comment.clone(),
        effective_time: Some(to_proto(termination.at)),
        request_time: termination.requested_at.map(to_proto),
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

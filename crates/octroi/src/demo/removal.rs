//! A licence deleted: what it consumed this month is still billed.

use octroi_api::licensing::v1::{DeleteLicenseRequest, GetLicenseGroupRequest, QueryUsageRequest};

use super::stage::{GROUP, Stage, done};

/// "Delete a licence".
pub(super) async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    stage.at("2026-11-28T11:00").await?;
    stage.chapter("Delete a licence")?;
    let request = DeleteLicenseRequest {
        name: format!("{GROUP}/licenses/3"),
        ..DeleteLicenseRequest::default()
    };
    let deleted = done(
        "DeleteLicense",
        stage.api.licenses.delete_license(request).await,
    )?;
    stage.report(
        "DeleteLicense",
        format!("{} is gone, its days stay billable", deleted.name),
    )?;
    let request = GetLicenseGroupRequest {
        name: GROUP.to_owned(),
    };
    let answer = stage.api.groups.get_license_group(request).await;
    for seats in done("GetLicenseGroup", answer)?.offers {
        stage.report(
            "GetLicenseGroup",
            format!(
                "{}: {} licences, {} active",
                seats.offer, seats.licenses, seats.active
            ),
        )?;
    }
    let request = QueryUsageRequest {
        name: GROUP.to_owned(),
        month: "2026-11".to_owned(),
    };
    let usage = done("QueryUsage", stage.api.groups.query_usage(request).await)?;
    for offer in usage.offers {
        stage.report(
            "QueryUsage",
            format!(
                "{}: {} at once at most in {}",
                offer.offer, offer.peak, usage.month
            ),
        )?;
    }
    Ok(())
}

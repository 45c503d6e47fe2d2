//! Terminating the group, with reasons.

use octroi_api::licensing::v1::{TerminateLicenseGroupRequest, TerminationReason};

use super::stage::{GROUP, Stage, done, refused, state};

/// "Terminate the group".
pub(super) async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    stage.at("2026-12-08T16:00").await?;
    stage.chapter("Terminate the group")?;
    let request = |reasons: &[TerminationReason]| TerminateLicenseGroupRequest {
        name: GROUP.to_owned(),
        reasons: reasons.iter().map(|reason| (*reason).into()).collect(),
        future_use: "A suite of our own".to_owned(),
        ..TerminateLicenseGroupRequest::default()
    };
    let answer = stage.api.groups.terminate_license_group(request(&[])).await;
    let refusal = refused("TerminateLicenseGroup", "INVALID_FIELDS", answer)?;
    stage.report(
        "TerminateLicenseGroup",
        format!("without a reason: {refusal}"),
    )?;
    let reasons = [
        TerminationReason::NotNeeded,
        TerminationReason::TooExpensive,
    ];
    let answer = stage
        .api
        .groups
        .terminate_license_group(request(&reasons))
        .await;
    let group = done("TerminateLicenseGroup", answer)?;
    stage.report(
        "TerminateLicenseGroup",
        format!(
            "{}: {}, because NOT_NEEDED and TOO_EXPENSIVE",
            group.name,
            state(group.state().as_str_name())
        ),
    )?;
    for seats in group.offers {
        stage.report_more(format!("{}: {} licences left", seats.offer, seats.licenses))?;
    }
    Ok(())
}

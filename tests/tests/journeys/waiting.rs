//! Calls that wait for each other: each sees what the one before it did.

use octroi_api::licensing::v1::{
    CancelTerminationRequest, DeactivateOwnDeviceRequest, Device, LicenseGroup, Platform,
    RegisterDeviceRequest, TerminateLicenseGroupRequest, TerminationReason,
    UpdateLicenseGroupRequest, device,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, eventually, request_id,
};
use prost_types::FieldMask;
use tonic::{Response, Status};

/// A change of a group that waits for an activation answers with its seat counted, and so does its repetition.
#[tokio::test]
async fn a_group_answers_with_the_seats_that_it_waited_for() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    for number in 1..=3 {
        let id = request_id();
        held(&octroi, number).await;
        let activating = {
            let acme = acme.clone();
            tokio::spawn(async move {
                acme.activates("office", number, &format!("user{number}"))
                    .await
            })
        };
        waiting(&octroi, 1).await;
        let changing = {
            let (acme, id) = (acme.clone(), id.clone());
            tokio::spawn(async move { changes(&acme, number, &id).await })
        };
        waiting(&octroi, 2).await;
        octroi.sql.batch_execute("COMMIT").await.unwrap();
        activating.await.unwrap();
        let changed = changing.await.unwrap().got();
        assert_eq!(changed.offers[0].active, number, "{changed:?}");
        assert_eq!(changes(&acme, number, &id).await.got(), changed);
    }
    octroi.finish().await;
}

/// A device that is deactivated twice at once is answered twice as it is.
#[tokio::test]
async fn a_device_is_deactivated_twice_at_once() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    let change = octroi_api::licensing::v1::ChangeOwnPasswordRequest {
        current_password: CHOSEN.to_owned(),
        new_password: "Green-Lantern-7".to_owned(),
        ..Default::default()
    };
    let user = acme.user(&address, CHOSEN).await;
    user.portal().change_own_password(change).await.got();
    let register = RegisterDeviceRequest {
        device: Some(Device {
            platform: Platform::Windows.into(),
            display_name: "A machine".to_owned(),
            ..Device::default()
        }),
        ..RegisterDeviceRequest::default()
    };
    let name = user.portal().register_device(register).await.got().name;
    held(&octroi, 1).await;
    let mut twins = Vec::new();
    for at in 1..=2 {
        let (user, name) = (user.clone(), name.clone());
        twins.push(tokio::spawn(async move {
            let request = DeactivateOwnDeviceRequest {
                name,
                ..DeactivateOwnDeviceRequest::default()
            };
            user.portal().deactivate_own_device(request).await
        }));
        waiting(&octroi, at).await;
    }
    octroi.sql.batch_execute("COMMIT").await.unwrap();
    let mut answers = Vec::new();
    for twin in twins {
        answers.push(twin.await.unwrap().got());
    }
    assert_eq!(answers[0].state(), device::State::Deactivated);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        acme.license("office", 1).await.devices.unwrap().computers,
        0
    );
    octroi.finish().await;
}

/// Holds a licence until COMMIT: whatever changes it waits.
async fn held(octroi: &Installation, number: i32) {
    let hold = format!("BEGIN; SELECT FROM licensing.license WHERE number = {number} FOR UPDATE");
    octroi.sql.batch_execute(&hold).await.unwrap();
}

/// Waits until so many of licensing's statements wait for a lock.
async fn waiting(octroi: &Installation, count: i64) {
    eventually("calls wait for the lock", async || {
        // A transaction sees the same activity until it asks for it anew.
        octroi
            .sql
            .batch_execute("SELECT pg_stat_clear_snapshot()")
            .await
            .unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = octroi.sql.query_one(sql, &[]).await.unwrap().get(0);
        (waiting == count).then_some(())
    })
    .await;
}

/// Three changes of a group that leave it as it is but for the first one's name.
async fn changes(acme: &Customer, which: i32, id: &str) -> Result<Response<LicenseGroup>, Status> {
    let (name, request_id) = (acme.group_name("office"), id.to_owned());
    let mut groups = acme.by.groups();
    match which {
        1 => {
            let request = UpdateLicenseGroupRequest {
                license_group: Some(LicenseGroup {
                    name,
                    display_name: "Head office".to_owned(),
                    ..LicenseGroup::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["display_name".to_owned()],
                }),
                request_id,
            };
            groups.update_license_group(request).await
        }
        2 => {
            let request = TerminateLicenseGroupRequest {
                name,
                reasons: vec![TerminationReason::NotNeeded.into()],
                at_period_end: true,
                request_id,
                ..TerminateLicenseGroupRequest::default()
            };
            groups.terminate_license_group(request).await
        }
        _ => {
            let request = CancelTerminationRequest {
                name,
                request_id,
                ..CancelTerminationRequest::default()
            };
            groups.cancel_termination(request).await
        }
    }
}

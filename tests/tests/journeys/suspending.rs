//! A suspended group: nobody signs in, is activated or registers a device, and who is in already stays. Nothing suspends
//! yet, so it is done by hand.

use octroi_api::licensing::v1::{
    DeactivateOwnDeviceRequest, Device, ListInstallersRequest, ListOwnDevicesRequest, Platform,
    RegisterDeviceRequest, SignInResponse, device, license, license_group,
};
use octroi_tests::harness::{Answer as _, BUSINESS, CHOSEN, Caller, Installation, request_id};
use tonic::{Code, Response, Status};

#[tokio::test]
async fn nobody_comes_in() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    let session = acme.signs_in(&address, CHOSEN).await.got();
    let user = acme.by.with_session(&session.session_token);
    let change = octroi_api::licensing::v1::ChangeOwnPasswordRequest {
        current_password: CHOSEN.to_owned(),
        new_password: "Green-Lantern-7".to_owned(),
        ..Default::default()
    };
    user.portal().change_own_password(change).await.got();
    let signs_in = async |password: &str| -> Result<Response<SignInResponse>, Status> {
        acme.signs_in(&address, password).await
    };
    let installed = registers(&user).await.got();

    let suspend = "UPDATE licensing.license_group SET state = 'SUSPENDED'";
    octroi.sql.execute(suspend, &[]).await.unwrap();
    let state = acme.group("office").await.state();
    assert_eq!(state, license_group::State::Suspended);
    // Only who knows the password learns it, and is not counted as a failure.
    for _ in 0..6 {
        let refused = signs_in("Green-Lantern-7").await.refused();
        refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    }
    let refused = signs_in(CHOSEN).await.refused();
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    let refused = registers(&user).await.refused();
    refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    let activation = acme.activation("office", 2, "night");
    let activates = async || {
        acme.by
            .licenses()
            .activate_license(activation.clone())
            .await
    };
    let refused = activates().await.refused();
    refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    // What is there stays, and can be taken off.
    let state = acme.license("office", 1).await.state();
    assert_eq!(state, license::State::Active);
    let mut portal = user.portal();
    portal.list_installers(ListInstallersRequest {}).await.got();
    let devices = portal
        .list_own_devices(ListOwnDevicesRequest::default())
        .await
        .got();
    assert_eq!(devices.devices, std::slice::from_ref(&installed));
    let request = DeactivateOwnDeviceRequest {
        name: installed.name,
        request_id: request_id(),
    };
    let gone = portal.deactivate_own_device(request).await.got();
    assert_eq!(gone.state(), device::State::Deactivated);

    let resume = "UPDATE licensing.license_group SET state = 'ACTIVE'";
    octroi.sql.execute(resume, &[]).await.unwrap();
    signs_in("Green-Lantern-7").await.got();
    registers(&user).await.got();
    activates().await.got();
    octroi.finish().await;
}

async fn registers(user: &Caller) -> Result<Response<Device>, Status> {
    let request = RegisterDeviceRequest {
        device: Some(Device {
            platform: Platform::Macos.into(),
            display_name: "A machine".to_owned(),
            ..Device::default()
        }),
        request_id: request_id(),
    };
    user.portal().register_device(request).await
}

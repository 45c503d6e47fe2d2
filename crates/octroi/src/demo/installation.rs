//! What the user does on the portal: sign in, change the password, install up to the limits.

use octroi_api::licensing::v1::{
    ChangeOwnPasswordRequest, Device, ListInstallersRequest, Platform, RegisterDeviceRequest,
    SignInRequest,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::stage::{Stage, done, refused};

const LOGIN: &str = "sales@office.acme.users.octroi.example";
const NEW_PASSWORD: &str = "Blue-Harbour-42";

/// For each device limit: five platforms within it, and the sixth that exceeds it.
const COUNTERS: [(&str, [Platform; 5], Platform); 3] = [
    (
        "computers",
        [
            Platform::Windows,
            Platform::Macos,
            Platform::Windows,
            Platform::Macos,
            Platform::Windows,
        ],
        Platform::Macos,
    ),
    (
        "tablets",
        [
            Platform::Ipados,
            Platform::AndroidTablet,
            Platform::Ipados,
            Platform::AndroidTablet,
            Platform::Ipados,
        ],
        Platform::AndroidTablet,
    ),
    (
        "smartphones",
        [
            Platform::Ios,
            Platform::AndroidPhone,
            Platform::Ios,
            Platform::AndroidPhone,
            Platform::Ios,
        ],
        Platform::Ios,
    ),
];

/// "Install the suite on your machine".
pub(super) async fn play(stage: &mut Stage, password: &str) -> anyhow::Result<()> {
    stage.at("2026-11-25T09:30").await?;
    stage.chapter("Install the applications")?;
    let request = SignInRequest {
        activation_email: LOGIN.to_owned(),
        password: password.to_owned(),
        client_address: "192.0.2.7".to_owned(),
    };
    let session = done("SignIn", stage.api.portal.sign_in(request).await)?;
    let token: MetadataValue<Ascii> = session.session_token.parse()?;
    stage.report(
        "SignIn",
        "with the mailed password, which must be changed first",
    )?;
    let answer = stage
        .api
        .portal
        .list_installers(with(&token, ListInstallersRequest {}))
        .await;
    let refusal = refused("ListInstallers", "PASSWORD_CHANGE_REQUIRED", answer)?;
    stage.report("ListInstallers", refusal)?;
    let request = ChangeOwnPasswordRequest {
        current_password: password.to_owned(),
        new_password: NEW_PASSWORD.to_owned(),
        ..ChangeOwnPasswordRequest::default()
    };
    let answer = stage
        .api
        .portal
        .change_own_password(with(&token, request))
        .await;
    done("ChangeOwnPassword", answer)?;
    stage.report("ChangeOwnPassword", "changed; the session goes on")?;
    let answer = stage
        .api
        .portal
        .list_installers(with(&token, ListInstallersRequest {}))
        .await;
    let installers = done("ListInstallers", answer)?;
    stage.report(
        "ListInstallers",
        format!(
            "{} downloads; {}",
            installers.installers.len(),
            installers.applications.join(", ")
        ),
    )?;
    for (counter, fitting, sixth) in COUNTERS {
        for platform in fitting {
            let answer = register(stage, &token, platform).await;
            done("RegisterDevice", answer)?;
        }
        let names: Vec<&str> = fitting.into_iter().map(name).collect();
        stage.report(
            "RegisterDevice",
            format!("5 {counter}: {}", names.join(", ")),
        )?;
        let answer = register(stage, &token, sixth).await;
        let refusal = refused("RegisterDevice", "DEVICE_LIMIT_REACHED", answer)?;
        stage.report(
            "RegisterDevice",
            format!("a sixth ({}): {refusal}", name(sixth)),
        )?;
    }
    Ok(())
}

async fn register(
    stage: &mut Stage,
    token: &MetadataValue<Ascii>,
    platform: Platform,
) -> Result<tonic::Response<Device>, tonic::Status> {
    let request = RegisterDeviceRequest {
        device: Some(Device {
            platform: platform.into(),
            display_name: name(platform).to_owned(),
            ..Device::default()
        }),
        ..RegisterDeviceRequest::default()
    };
    stage.api.portal.register_device(with(token, request)).await
}

/// A request with a user's session.
fn with<T>(token: &MetadataValue<Ascii>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("octroi-session", token.clone());
    request
}

fn name(platform: Platform) -> &'static str {
    match platform {
        Platform::Unspecified => "nothing",
        Platform::Windows => "Windows",
        Platform::Macos => "macOS",
        Platform::Ipados => "iPadOS",
        Platform::AndroidTablet => "Android tablet",
        Platform::Ios => "iOS",
        Platform::AndroidPhone => "Android phone",
    }
}

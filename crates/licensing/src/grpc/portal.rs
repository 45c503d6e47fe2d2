//! PortalService on the wire.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::portal_service_server::PortalService;
use octroi_platform::event::to_proto;
use octroi_platform::text::is_unseen;
use octroi_platform::{Call, Error as PlatformError, Page, Violations, check_request_id, name};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::app::portal::Portal;
use crate::app::session::{OwnPasswordChange, SignIn, key};
use crate::domain::device::{Device, Kind, NewDevice, Platform, display_name};
use crate::domain::license::LicenseId;
use crate::domain::portal::{Installer, client};
use crate::error::Error;
use crate::grpc::license::{numbered, valid};

/// Longer than any address or password that could be right.
const MAX_TYPED: usize = 512;

/// Answers PortalService.
pub(crate) struct PortalApi {
    portal: Portal,
    download_url: String,
}

impl PortalApi {
    /// Under `download_url` lie the installers.
    pub(crate) fn new(portal: Portal, download_url: String) -> Self {
        Self {
            portal,
            download_url,
        }
    }
}

#[tonic::async_trait]
impl PortalService for PortalApi {
    async fn sign_in(
        &self,
        request: Request<wire::SignInRequest>,
    ) -> Result<Response<wire::SignInResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        check_typed(
            "activation_email",
            &request.activation_email,
            &mut violations,
        );
        // What could not even be stored is looked up nowhere.
        if request.activation_email.chars().any(is_unseen) {
            violations.add(
                "activation_email",
                "must hold no control or format character",
            );
        }
        check_typed("password", &request.password, &mut violations);
        let client = violations.check("client_address", client(&request.client_address));
        let asked = SignIn {
            address: request.activation_email,
            password: SecretString::from(request.password),
            client: valid(client, violations)?,
        };
        let signed_in = self.portal.sign_in(&call, asked).await?;
        Ok(Response::new(wire::SignInResponse {
            session_token: signed_in.token.expose_secret().to_owned(),
            license: signed_in.license.to_string(),
            expire_time: Some(to_proto(signed_in.expires_at)),
            password_change_required: signed_in.password_change_required,
        }))
    }

    async fn sign_out(
        &self,
        request: Request<wire::SignOutRequest>,
    ) -> Result<Response<wire::SignOutResponse>, Status> {
        let (call, wire::SignOutRequest {}) = Call::open(request)?;
        self.portal.sign_out(&call, &key(&call)?).await?;
        Ok(Response::new(wire::SignOutResponse {}))
    }

    async fn change_own_password(
        &self,
        request: Request<wire::ChangeOwnPasswordRequest>,
    ) -> Result<Response<wire::ChangeOwnPasswordResponse>, Status> {
        let (call, mut request) = Call::open(request)?;
        let key = key(&call)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        check_typed(
            "current_password",
            &request.current_password,
            &mut violations,
        );
        check_typed("new_password", &request.new_password, &mut violations);
        let about = key.license.to_string();
        // The password's rules, which need the session's licence, join what is wrong so far.
        let call = match violations.is_empty() {
            true => call.idempotent(&request_id, &about, &request)?,
            false => call,
        };
        let asked = OwnPasswordChange {
            current: SecretString::from(request.current_password),
            new: SecretString::from(request.new_password),
        };
        self.portal
            .change_own_password(&call, &key, asked, violations)
            .await?;
        Ok(Response::new(wire::ChangeOwnPasswordResponse {}))
    }

    async fn list_installers(
        &self,
        request: Request<wire::ListInstallersRequest>,
    ) -> Result<Response<wire::ListInstallersResponse>, Status> {
        let (call, wire::ListInstallersRequest {}) = Call::open(request)?;
        let (installers, applications) = self.portal.list_installers(&call, &key(&call)?).await?;
        let base = self.download_url.trim_end_matches('/');
        Ok(Response::new(wire::ListInstallersResponse {
            installers: installers.iter().map(|it| installer(it, base)).collect(),
            applications,
        }))
    }

    async fn register_device(
        &self,
        request: Request<wire::RegisterDeviceRequest>,
    ) -> Result<Response<wire::Device>, Status> {
        let (call, mut request) = Call::open(request)?;
        let key = key(&call)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let given = request.device.clone().unwrap_or_default();
        let new = new_device(&given, &mut violations);
        let about = key.license.to_string();
        let new = valid(new, violations)?;
        let call = call.idempotent(&request_id, &about, &request)?;
        let answer = self
            .portal
            .register_device(&call, &key, new, device_to_wire)
            .await?;
        Ok(Response::new(answer))
    }

    async fn list_own_devices(
        &self,
        request: Request<wire::ListOwnDevicesRequest>,
    ) -> Result<Response<wire::ListOwnDevicesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let key = key(&call)?;
        let mut violations = Violations::default();
        let query = format!("{} deactivated={}", key.license, request.show_deactivated);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &query,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let after: Option<Uuid> = page.key(&mut violations);
        let after = after.unwrap_or_default();
        violations.finish()?;
        let devices = self
            .portal
            .list_own_devices(&call, &key, request.show_deactivated, (after, page.limit))
            .await?;
        let (devices, next_page_token) = page.cut(
            devices,
            |it| it.id.to_string(),
            |it| device_to_wire(&key.license, &it),
        );
        Ok(Response::new(wire::ListOwnDevicesResponse {
            devices,
            next_page_token,
        }))
    }

    async fn deactivate_own_device(
        &self,
        request: Request<wire::DeactivateOwnDeviceRequest>,
    ) -> Result<Response<wire::Device>, Status> {
        let (call, mut request) = Call::open(request)?;
        let key = key(&call)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let parsed = device_id(&request.name);
        if parsed.is_none() {
            violations.add(
                "name",
                "must be \"accounts/{account}/licenseGroups/{group}/licenses/{number}/devices/{uuid}\"",
            );
        }
        let about = key.license.to_string();
        let (license, device) = valid(parsed, violations)?;
        let call = call.idempotent(&request_id, &about, &request)?;
        if license != key.license {
            let name = request.name;
            return Err(Error::from(PlatformError::NotFound {
                kind: "device",
                name,
            })
            .into());
        }
        let answer = self
            .portal
            .deactivate_own_device(&call, &key, device, device_to_wire)
            .await?;
        Ok(Response::new(answer))
    }
}

fn check_typed(field: &str, typed: &str, violations: &mut Violations) {
    if typed.is_empty() || typed.len() > MAX_TYPED {
        violations.add(field, format!("must have 1 to {MAX_TYPED} bytes"));
    }
}

fn new_device(given: &wire::Device, violations: &mut Violations) -> Option<NewDevice> {
    let platform = match given.platform() {
        wire::Platform::Unspecified => None,
        wire::Platform::Windows => Some(Platform::Windows),
        wire::Platform::Macos => Some(Platform::Macos),
        wire::Platform::Ipados => Some(Platform::Ipados),
        wire::Platform::AndroidTablet => Some(Platform::AndroidTablet),
        wire::Platform::Ios => Some(Platform::Ios),
        wire::Platform::AndroidPhone => Some(Platform::AndroidPhone),
    };
    if platform.is_none() {
        violations.add("device.platform", "must be one that Octroi knows");
    }
    let is_computer = platform.is_none_or(|platform| platform.kind() == Kind::Computer);
    if given.shared_computer && !is_computer {
        violations.add(
            "device.shared_computer",
            "must be false on tablets and smartphones",
        );
    }
    let name = violations.check("device.display_name", display_name(&given.display_name));
    Some(NewDevice {
        platform: platform?,
        display_name: name?,
        shared_computer: given.shared_computer,
    })
}

fn device_id(given: &str) -> Option<(LicenseId, Uuid)> {
    let collections = ["accounts", "licenseGroups", "licenses", "devices"];
    let [account, group, number, device] = name::parse(given, collections)?;
    Some((numbered(account, group, number)?, name::parse_uuid(device)?))
}

fn installer(installer: &Installer, base: &str) -> wire::Installer {
    wire::Installer {
        platform: platform(installer.platform).into(),
        display_name: installer.display_name.to_owned(),
        download_uri: format!("{base}/{}", installer.path),
        instructions: installer.instructions.to_owned(),
    }
}

fn platform(platform: Platform) -> wire::Platform {
    match platform {
        Platform::Windows => wire::Platform::Windows,
        Platform::Macos => wire::Platform::Macos,
        Platform::Ipados => wire::Platform::Ipados,
        Platform::AndroidTablet => wire::Platform::AndroidTablet,
        Platform::Ios => wire::Platform::Ios,
        Platform::AndroidPhone => wire::Platform::AndroidPhone,
    }
}

fn device_to_wire(license: &LicenseId, device: &Device) -> wire::Device {
    use wire::device::State;
    let state = match device.deactivated_at {
        None => State::Active,
        Some(_) => State::Deactivated,
    };
    wire::Device {
        name: format!("{license}/devices/{}", device.id),
        platform: platform(device.device.platform).into(),
        display_name: device.device.display_name.clone(),
        shared_computer: device.device.shared_computer,
        state: state.into(),
        register_time: Some(to_proto(device.registered_at)),
        deactivate_time: device.deactivated_at.map(to_proto),
    }
}

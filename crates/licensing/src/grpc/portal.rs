//! PortalService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::portal_service_server::PortalService;
use octroi_platform::refusal::MISSING;
use octroi_platform::request::command_about;
use octroi_platform::text::is_unseen;
use octroi_platform::time::to_proto;
use octroi_platform::{Answer, Call, Error, Fields, Page, Violations, answer, open};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response};

use crate::app::portal::Portal;
use crate::app::session::{OwnPasswordChange, SignIn, key};
use crate::domain::device::{Device, DeviceId, Kind, NewDevice, Platform, display_name};
use crate::domain::portal::{Installer, client};

/// Longer than any address or password that could be right.
const MAX_TYPED: usize = 512;

pub(crate) struct PortalApi {
    pub(crate) portal: Portal,
    /// The installers lie under it.
    pub(crate) download_url: String,
}

#[tonic::async_trait]
impl PortalService for PortalApi {
    async fn sign_in(&self, request: Request<wire::SignInRequest>) -> Answer<wire::SignInResponse> {
        let (call, asked) = open(request, sign_in)?;
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
    ) -> Answer<wire::SignOutResponse> {
        let (call, ()) = open(request, |wire::SignOutRequest {}, _| Some(()))?;
        self.portal.sign_out(&call, &key(&call)?).await?;
        Ok(Response::new(wire::SignOutResponse {}))
    }

    async fn change_own_password(
        &self,
        request: Request<wire::ChangeOwnPasswordRequest>,
    ) -> Answer<wire::ChangeOwnPasswordResponse> {
        let (call, asked) = command_about(request, license, own_password_change)?;
        let key = key(&call)?;
        answer(self.portal.change_own_password(&call, &key, asked).await)
    }

    async fn list_installers(
        &self,
        request: Request<wire::ListInstallersRequest>,
    ) -> Answer<wire::ListInstallersResponse> {
        let (call, ()) = open(request, |wire::ListInstallersRequest {}, _| Some(()))?;
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
    ) -> Answer<wire::Device> {
        let (call, new) = command_about(request, license, |it, fields| {
            new_device(&fields.given("device", it.device), fields)
        })?;
        let key = key(&call)?;
        answer(self.portal.register_device(&call, &key, new).await)
    }

    async fn list_own_devices(
        &self,
        request: Request<wire::ListOwnDevicesRequest>,
    ) -> Answer<wire::ListOwnDevicesResponse> {
        let (call, show_deactivated, page) =
            Page::open_about(request, license, |it, _| Some(it.show_deactivated))?;
        let key = key(&call)?;
        let devices = &self.portal;
        let devices = devices
            .list_own_devices(&call, &key, show_deactivated, &page)
            .await?;
        let (devices, next_page_token) =
            page.cut(devices, |it| it.id.id.to_string(), |it| (&it).into());
        Ok(Response::new(wire::ListOwnDevicesResponse {
            devices,
            next_page_token,
        }))
    }

    async fn deactivate_own_device(
        &self,
        request: Request<wire::DeactivateOwnDeviceRequest>,
    ) -> Answer<wire::Device> {
        let (call, device) = command_about(request, license, |it, fields| {
            fields.name::<DeviceId>("name", &it.name)
        })?;
        let key = key(&call)?;
        answer(
            self.portal
                .deactivate_own_device(&call, &key, &device)
                .await,
        )
    }
}

/// The licence of a call's session: what its commands and lists are about, beside what their messages say.
fn license(call: &Call) -> Result<String, Error> {
    Ok(key(call)?.license.to_string())
}

fn sign_in(request: wire::SignInRequest, fields: &mut Fields<'_>) -> Option<SignIn> {
    let address = request.activation_email;
    check_typed("activation_email", &address, fields);
    if address.chars().any(is_unseen) {
        fields.add(
            "activation_email",
            "must hold no control or format character",
        );
    }
    check_typed("password", &request.password, fields);
    let client = fields.check("client_address", client(&request.client_address));
    Some(SignIn {
        address,
        password: SecretString::from(request.password),
        client: client?,
    })
}

fn own_password_change(
    request: wire::ChangeOwnPasswordRequest,
    fields: &mut Fields<'_>,
) -> Option<OwnPasswordChange> {
    check_typed("current_password", &request.current_password, fields);
    if request.new_password.is_empty() {
        fields.add("new_password", MISSING);
    }
    Some(OwnPasswordChange {
        current: SecretString::from(request.current_password),
        new: SecretString::from(request.new_password),
        violations: std::mem::take(&mut **fields),
    })
}

fn check_typed(field: &str, typed: &str, violations: &mut Violations) {
    if typed.is_empty() {
        violations.add(field, MISSING);
    } else if typed.len() > MAX_TYPED {
        violations.add(field, format!("must have at most {MAX_TYPED} bytes"));
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

impl From<&Device> for wire::Device {
    fn from(device: &Device) -> Self {
        use wire::device::State;
        let state = match device.deactivated_at {
            None => State::Active,
            Some(_) => State::Deactivated,
        };
        Self {
            name: device.id.to_string(),
            platform: platform(device.device.platform).into(),
            display_name: device.device.display_name.clone(),
            shared_computer: device.device.shared_computer,
            state: state.into(),
            register_time: Some(to_proto(device.registered_at)),
            deactivate_time: device.deactivated_at.map(to_proto),
        }
    }
}

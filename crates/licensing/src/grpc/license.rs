//! LicenseService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::license_service_server::LicenseService;
use octroi_platform::time::to_proto;
use octroi_platform::{Answer, Fields, Page, Violations, answer, command, open};
use secrecy::SecretString;
use tonic::{Request, Response};

use crate::app::license::{Activation, Licenses, PasswordChange};
use crate::app::password::check_password;
use crate::domain::group::GroupId;
use crate::domain::license::{
    ActivationEmail, Changes, License, LicenseId, State, User, check_login, user_name,
};

const MASK: [&str; 4] = [
    "user",
    "user.first_name",
    "user.last_name",
    "delete_at_renewal",
];

pub(crate) struct LicenseApi {
    pub(crate) licenses: Licenses,
    /// The default domains of all groups lie under it.
    pub(crate) activation_domain: String,
}

#[tonic::async_trait]
impl LicenseService for LicenseApi {
    async fn get_license(
        &self,
        request: Request<wire::GetLicenseRequest>,
    ) -> Answer<wire::License> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<LicenseId>("name", &it.name)
        })?;
        let license = self.licenses.get(&call, &id).await?;
        Ok(Response::new((&license).into()))
    }

    async fn list_licenses(
        &self,
        request: Request<wire::ListLicensesRequest>,
    ) -> Answer<wire::ListLicensesResponse> {
        let (call, (group, show_deleted), page) = Page::open(request, |it, fields| {
            let group = fields.name::<GroupId>("parent", &it.parent)?;
            Some((group, it.show_deleted))
        })?;
        let licenses = &self.licenses;
        let licenses = licenses.list(&call, &group, show_deleted, &page).await?;
        let (licenses, next_page_token) =
            page.cut(licenses, |it| it.id.number.to_string(), |it| (&it).into());
        Ok(Response::new(wire::ListLicensesResponse {
            licenses,
            next_page_token,
        }))
    }

    async fn activate_license(
        &self,
        request: Request<wire::ActivateLicenseRequest>,
    ) -> Answer<wire::License> {
        let domain = &self.activation_domain;
        let (call, (id, etag, activation)) =
            command(request, |it, fields| activation(it, domain, fields))?;
        answer(self.licenses.activate(&call, &id, &etag, activation).await)
    }

    async fn update_license(
        &self,
        request: Request<wire::UpdateLicenseRequest>,
    ) -> Answer<wire::License> {
        let (call, (id, etag, changes)) = command(request, |it, fields| {
            let license = fields.given("license", it.license);
            let id = fields.name::<LicenseId>("license.name", &license.name);
            let paths = fields.mask(it.update_mask.as_ref(), &MASK);
            let changes = changes(&license, &paths, fields);
            Some((id?, license.etag, changes))
        })?;
        answer(self.licenses.update(&call, &id, &etag, changes).await)
    }

    async fn change_password(
        &self,
        request: Request<wire::ChangePasswordRequest>,
    ) -> Answer<wire::License> {
        let (call, (id, etag, change)) = command(request, |it, fields| {
            let id = fields.name::<LicenseId>("name", &it.name);
            let change = PasswordChange {
                password: chosen(it.password, "", fields),
                send_email: it.send_email,
            };
            Some((id?, it.etag, change))
        })?;
        let licenses = &self.licenses;
        answer(licenses.change_password(&call, &id, &etag, change).await)
    }

    async fn release_license(
        &self,
        request: Request<wire::ReleaseLicenseRequest>,
    ) -> Answer<wire::License> {
        let (call, (id, etag)) = command(request, |it, fields| {
            Some((fields.name::<LicenseId>("name", &it.name)?, it.etag))
        })?;
        answer(self.licenses.release(&call, &id, &etag).await)
    }

    async fn delete_license(
        &self,
        request: Request<wire::DeleteLicenseRequest>,
    ) -> Answer<wire::License> {
        let (call, (id, etag)) = command(request, |it, fields| {
            Some((fields.name::<LicenseId>("name", &it.name)?, it.etag))
        })?;
        answer(self.licenses.delete(&call, &id, &etag).await)
    }
}

fn activation(
    request: wire::ActivateLicenseRequest,
    domain: &str,
    fields: &mut Fields<'_>,
) -> Option<(LicenseId, String, Activation)> {
    let id = fields.name::<LicenseId>("name", &request.name);
    let user = fields.given("user", request.user);
    let first_name = fields.check("user.first_name", user_name(&user.first_name));
    let last_name = fields.check("user.last_name", user_name(&user.last_name));
    let given = request.activation_email.as_str();
    let login = given.split('@').next().unwrap_or_default();
    let email = match &id {
        Some(id) => {
            let email = ActivationEmail::complete(given, &id.group, domain);
            fields.check("activation_email", email)
        }
        // Without a name the domain is not known, but the login can be checked.
        None => {
            fields.check("activation_email", check_login(login));
            None
        }
    };
    let login = check_login(login).map_or("", |()| login);
    let password = chosen(request.password, login, fields);
    let user = User {
        first_name: first_name?,
        last_name: last_name?,
    };
    let activation = Activation {
        user,
        activation_email: email?,
        password,
    };
    Some((id?, request.etag, activation))
}

fn changes(license: &wire::License, paths: &[String], violations: &mut Violations) -> Changes {
    let user = license.user.clone().unwrap_or_default();
    let has = |names: &[&str]| paths.iter().any(|path| names.contains(&path.as_str()));
    let mut changes = Changes::default();
    if has(&["user", "user.first_name"]) {
        let checked = user_name(&user.first_name);
        changes.first_name = violations.check("license.user.first_name", checked);
    }
    if has(&["user", "user.last_name"]) {
        let checked = user_name(&user.last_name);
        changes.last_name = violations.check("license.user.last_name", checked);
    }
    if has(&["delete_at_renewal"]) {
        changes.delete_at_renewal = Some(license.delete_at_renewal);
    }
    changes
}

fn given(password: String) -> Option<SecretString> {
    (!password.is_empty()).then(|| SecretString::from(password))
}

/// The password that the caller chose, if any. Where the login is not known yet it is empty.
fn chosen(password: String, login: &str, violations: &mut Violations) -> Option<SecretString> {
    let password = given(password);
    if let Some(chosen) = &password {
        check_password("password", chosen, login, violations);
    }
    password
}

impl From<&License> for wire::License {
    fn from(license: &License) -> Self {
        use wire::license::State as Wire;
        let (state, assignment, deleted_at) = match &license.state {
            State::Unassigned => (Wire::Unassigned, None, None),
            State::Active(assignment) => (Wire::Active, Some(assignment), None),
            State::Deleted { at } => (Wire::Deleted, None, Some(*at)),
        };
        Self {
            name: license.id.to_string(),
            offer: license.offer.to_string(),
            state: state.into(),
            user: assignment.map(|it| wire::LicenseUser {
                first_name: it.user.first_name.clone(),
                last_name: it.user.last_name.clone(),
            }),
            activation_email: assignment
                .map(|it| it.activation_email.as_str().to_owned())
                .unwrap_or_default(),
            password_change_required: assignment.is_some_and(|it| it.password_change_required),
            delete_at_renewal: license.delete_at_renewal,
            devices: Some(wire::DeviceCounters {
                computers: license.devices.computers,
                tablets: license.devices.tablets,
                smartphones: license.devices.smartphones,
                computer_limit: license.limits.computers,
                tablet_limit: license.limits.tablets,
                smartphone_limit: license.limits.smartphones,
            }),
            activate_time: assignment.map(|it| to_proto(it.activated_at)),
            create_time: Some(to_proto(license.created_at)),
            update_time: Some(to_proto(license.updated_at)),
            delete_time: deleted_at.map(to_proto),
            etag: license.version.to_string(),
        }
    }
}

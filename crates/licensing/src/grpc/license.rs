//! LicenseService on the wire.

use std::num::NonZeroU32;

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::license_service_server::LicenseService;
use octroi_platform::event::to_proto;
use octroi_platform::{Call, Error as PlatformError, Page, Violations, check_request_id, name};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use crate::app::license::{Activation, Licenses, PasswordChange, check_password};
use crate::domain::license::{
    ActivationEmail, Changes, License, LicenseId, State, User, check_login, user_name,
};
use crate::domain::offer;
use crate::error::Error;

const NAME_RULE: &str = "must be \"accounts/{account}/licenseGroups/{group}/licenses/{number}\"";
const PARENT_RULE: &str = "must be \"accounts/{account}/licenseGroups/{group}\"";

/// Answers LicenseService.
pub(crate) struct LicenseApi {
    licenses: Licenses,
    activation_domain: String,
}

impl LicenseApi {
    /// Under `activation_domain` lie the default domains of all groups.
    pub(crate) fn new(licenses: Licenses, activation_domain: String) -> Self {
        Self {
            licenses,
            activation_domain,
        }
    }
}

#[tonic::async_trait]
impl LicenseService for LicenseApi {
    async fn get_license(
        &self,
        request: Request<wire::GetLicenseRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let id = license_id("name", &request.name, &mut violations);
        let id = valid(id, violations)?;
        let license = self.licenses.get(&call, &id).await?;
        Ok(Response::new(to_wire(&license)))
    }

    async fn list_licenses(
        &self,
        request: Request<wire::ListLicensesRequest>,
    ) -> Result<Response<wire::ListLicensesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let parent = name::parse(&request.parent, ["accounts", "licenseGroups"]);
        if parent.is_none() {
            violations.add("parent", PARENT_RULE);
        }
        let query = format!("{} deleted={}", request.parent, request.show_deleted);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &query,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let after: Option<NonZeroU32> = page.key(&mut violations);
        let after = after.map_or(0, |number| i32::try_from(number.get()).unwrap_or(i32::MAX));
        let [account, group] = valid(parent, violations)?;
        let licenses = self
            .licenses
            .list(
                &call,
                (account, group),
                request.show_deleted,
                (after, page.limit),
            )
            .await?;
        let (licenses, next_page_token) =
            page.cut(licenses, |it| it.id.number.to_string(), |it| to_wire(&it));
        Ok(Response::new(wire::ListLicensesResponse {
            licenses,
            next_page_token,
        }))
    }

    async fn activate_license(
        &self,
        request: Request<wire::ActivateLicenseRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let domain = &self.activation_domain;
        let fields = activation_fields(&request, domain, &mut violations);
        let (id, user, activation_email) = valid(fields, violations)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let asked = Activation {
            id,
            user,
            activation_email,
            password: chosen(request.password),
            etag: request.etag,
        };
        let answer = self.licenses.activate(&call, asked, to_wire).await?;
        Ok(Response::new(answer))
    }

    async fn update_license(
        &self,
        request: Request<wire::UpdateLicenseRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let license = request.license.clone().unwrap_or_default();
        let id = license_id("license.name", &license.name, &mut violations);
        let paths = request.update_mask.as_ref().map(|mask| &mask.paths);
        let changes = changes(&license, paths.map_or(&[], Vec::as_slice), &mut violations);
        let id = valid(id, violations)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let answer = self
            .licenses
            .update(&call, &id, &license.etag, changes, to_wire)
            .await?;
        Ok(Response::new(answer))
    }

    async fn change_password(
        &self,
        request: Request<wire::ChangePasswordRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let id = license_id("name", &request.name, &mut violations);
        // With a name the licence is known, and the password's rules join what is wrong so far.
        let Some(id) = id else {
            if !request.password.is_empty() {
                check_password("password", &request.password.into(), "", &mut violations);
            }
            return Err(invalid(violations).into());
        };
        let call = match violations.is_empty() {
            true => call.idempotent(&request_id, "", &request)?,
            false => call,
        };
        let asked = PasswordChange {
            id,
            password: chosen(request.password),
            send_email: request.send_email,
            etag: request.etag,
        };
        let answer = self
            .licenses
            .change_password(&call, asked, violations, to_wire)
            .await?;
        Ok(Response::new(answer))
    }

    async fn release_license(
        &self,
        request: Request<wire::ReleaseLicenseRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let id = license_id("name", &request.name, &mut violations);
        let id = valid(id, violations)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let answer = self
            .licenses
            .release(&call, &id, &request.etag, to_wire)
            .await?;
        Ok(Response::new(answer))
    }

    async fn delete_license(
        &self,
        request: Request<wire::DeleteLicenseRequest>,
    ) -> Result<Response<wire::License>, Status> {
        let (call, mut request) = Call::open(request)?;
        let request_id = std::mem::take(&mut request.request_id);
        let mut violations = Violations::default();
        check_request_id(&request_id, &mut violations);
        let id = license_id("name", &request.name, &mut violations);
        let id = valid(id, violations)?;
        let call = call.idempotent(&request_id, "", &request)?;
        let answer = self
            .licenses
            .delete(&call, &id, &request.etag, to_wire)
            .await?;
        Ok(Response::new(answer))
    }
}

fn activation_fields(
    request: &wire::ActivateLicenseRequest,
    domain: &str,
    violations: &mut Violations,
) -> Option<(LicenseId, User, ActivationEmail)> {
    let id = license_id("name", &request.name, violations);
    let user = request.user.clone().unwrap_or_default();
    let first_name = violations.check("user.first_name", user_name(&user.first_name));
    let last_name = violations.check("user.last_name", user_name(&user.last_name));
    let given = request.activation_email.as_str();
    let login = given.split('@').next().unwrap_or_default();
    let email = match &id {
        Some(id) => violations.check(
            "activation_email",
            ActivationEmail::complete(given, id, domain),
        ),
        // Without a name the domain is not known, but the login can be told right from wrong.
        None => {
            violations.check("activation_email", check_login(login));
            None
        }
    };
    if !request.password.is_empty() {
        let login = check_login(login).map_or("", |()| login);
        let password = SecretString::from(request.password.as_str());
        check_password("password", &password, login, violations);
    }
    let user = User {
        first_name: first_name?,
        last_name: last_name?,
    };
    Some((id?, user, email?))
}

fn changes(license: &wire::License, paths: &[String], violations: &mut Violations) -> Changes {
    let user = license.user.clone().unwrap_or_default();
    let mut changes = Changes::default();
    let (mut first, mut last) = (false, false);
    for path in paths {
        match path.as_str() {
            "user" => (first, last) = (true, true),
            "user.first_name" => first = true,
            "user.last_name" => last = true,
            "delete_at_renewal" => changes.delete_at_renewal = Some(license.delete_at_renewal),
            other => violations.add(
                "update_mask",
                format!(
                    "takes user, user.first_name, user.last_name and delete_at_renewal, not {other:?}"
                ),
            ),
        }
    }
    if paths.is_empty() {
        violations.add("update_mask", "must name the fields to change");
    }
    if first {
        let checked = user_name(&user.first_name);
        changes.first_name = violations.check("license.user.first_name", checked);
    }
    if last {
        let checked = user_name(&user.last_name);
        changes.last_name = violations.check("license.user.last_name", checked);
    }
    changes
}

fn chosen(password: String) -> Option<SecretString> {
    (!password.is_empty()).then(|| SecretString::from(password))
}

/// Reads a licence's name.
pub(crate) fn license_id(
    field: &str,
    given: &str,
    violations: &mut Violations,
) -> Option<LicenseId> {
    let parsed = name::parse(given, ["accounts", "licenseGroups", "licenses"]);
    let id = parsed.and_then(|[account, group, number]| numbered(account, group, number));
    if id.is_none() {
        violations.add(field, NAME_RULE);
    }
    id
}

/// A licence's id from the parts of its name; none where the number is not written as Octroi writes it.
pub(crate) fn numbered(account: &str, group: &str, number: &str) -> Option<LicenseId> {
    Some(LicenseId {
        account: account.to_owned(),
        group: group.to_owned(),
        number: seat_number(number)?,
    })
}

fn seat_number(given: &str) -> Option<i32> {
    let number: i32 = given.parse().ok()?;
    (number > 0 && number.to_string() == given).then_some(number)
}

/// The value that the fields gave, when every one was good.
pub(crate) fn valid<T>(value: Option<T>, violations: Violations) -> Result<T, Error> {
    match value {
        Some(value) if violations.is_empty() => Ok(value),
        _ => Err(invalid(violations)),
    }
}

fn invalid(violations: Violations) -> Error {
    let untold =
        || PlatformError::Internal(anyhow::anyhow!("a field without a value was not noted"));
    Error::Platform(violations.finish().err().unwrap_or_else(untold))
}

/// A licence on the wire.
fn to_wire(license: &License) -> wire::License {
    use wire::license::State as Wire;
    let (state, assignment, deleted_at) = match &license.state {
        State::Unassigned => (Wire::Unassigned, None, None),
        State::Active(assignment) => (Wire::Active, Some(assignment), None),
        State::Deleted { at } => (Wire::Deleted, None, Some(*at)),
    };
    wire::License {
        name: license.id.to_string(),
        offer: offer::name(&license.offer),
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

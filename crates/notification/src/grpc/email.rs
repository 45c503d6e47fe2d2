//! EmailService.

use std::sync::Arc;

use octroi_api::notification::v1::email_service_server::EmailService;
use octroi_api::notification::v1::{
    Email as EmailMessage, EmailView, GetEmailRequest, ListEmailsRequest, ListEmailsResponse, email,
};
use octroi_platform::event::to_proto;
use octroi_platform::name::{parse, parse_uuid};
use octroi_platform::{Call, Error, Page, Violations};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::app::email::{Emails, Seen, View};
use crate::domain::email::{Delivery, Email, Secret};

/// Serves EmailService.
pub struct EmailApi(pub Arc<Emails>);

#[tonic::async_trait]
impl EmailService for EmailApi {
    async fn get_email(
        &self,
        request: Request<GetEmailRequest>,
    ) -> Result<Response<EmailMessage>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let name = email_name(&request.name);
        if name.is_none() {
            violations.add("name", "must be such as \"accounts/acme/emails/{uuid}\"");
        }
        violations.finish()?;
        let (account, id) = name.unwrap_or_default();
        let seen = self.0.get(&call, account, id).await?;
        Ok(Response::new(wire(seen, &call)))
    }

    async fn list_emails(
        &self,
        request: Request<ListEmailsRequest>,
    ) -> Result<Response<ListEmailsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = match parse(&request.parent, ["accounts"]) {
            Some([account]) => account,
            None => {
                violations.add("parent", "must be such as \"accounts/acme\"");
                ""
            }
        };
        let view = match request.view() {
            EmailView::Unspecified | EmailView::Basic => View::Basic,
            EmailView::Full => View::Full,
        };
        if EmailView::try_from(request.view).is_err() {
            violations.add("view", "must be a value of EmailView");
        }
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let before = page.key(&mut violations);
        violations.finish()?;
        let emails = self.0.list(&call, account, &page, before).await?;
        let id = |email: &Email| email.id.to_string();
        let (emails, next_page_token) = page.try_cut(emails, id, |email| {
            let seen = self.0.seen(&call, email, view)?;
            Ok::<_, Error>(wire(seen, &call))
        })?;
        Ok(Response::new(ListEmailsResponse {
            emails,
            next_page_token,
        }))
    }
}

fn email_name(name: &str) -> Option<(&str, Uuid)> {
    let [account, id] = parse(name, ["accounts", "emails"])?;
    Some((account, parse_uuid(id)?))
}

fn wire(seen: Seen, call: &Call) -> EmailMessage {
    let Seen { email, letter } = seen;
    let state = match email.delivery {
        Delivery::Queued | Delivery::Sending => email::State::Queued,
        Delivery::Sent { .. } => email::State::Sent,
        Delivery::Failed => email::State::Failed,
        Delivery::Withdrawn => email::State::Withdrawn,
    };
    let secret_state = match (&email.secret, email.secret.readable(call.now)) {
        (Secret::None, _) => email::SecretState::Unspecified,
        (_, Some(_)) => email::SecretState::Readable,
        (_, None) => email::SecretState::Erased,
    };
    let send_time = match email.delivery {
        Delivery::Sent { at } => Some(to_proto(at)),
        Delivery::Queued | Delivery::Sending | Delivery::Failed | Delivery::Withdrawn => None,
    };
    let (recipient, locale) = match &email.addressee {
        Some(to) => (to.email.clone(), to.locale.tag().to_owned()),
        None => (String::new(), String::new()),
    };
    EmailMessage {
        name: email.name(),
        template: email.content.template().to_owned(),
        recipient,
        locale,
        subject: letter.subject,
        text_body: letter.text,
        html_body: letter.html,
        state: state.into(),
        secret_state: secret_state.into(),
        secret_expire_time: email.secret.expires().map(to_proto),
        message_id: email.message_id,
        attempts: email.attempts,
        last_error: email.last_error,
        create_time: Some(to_proto(email.effective)),
        send_time,
    }
}

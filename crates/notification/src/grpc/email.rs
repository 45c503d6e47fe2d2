//! EmailService.

use std::sync::Arc;

use octroi_api::notification::v1 as wire;
use octroi_api::notification::v1::email_service_server::EmailService;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Call, Error, Page, open};
use tonic::{Request, Response};

use crate::app::email::{Emails, Seen, View};
use crate::domain::email::{Delivery, Email, EmailId, Secret};

/// Serves EmailService.
pub struct EmailApi(pub Arc<Emails>);

#[tonic::async_trait]
impl EmailService for EmailApi {
    async fn get_email(&self, request: Request<wire::GetEmailRequest>) -> Answer<wire::Email> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<EmailId>("name", &it.name)
        })?;
        let seen = self.0.get(&call, &id).await?;
        Ok(Response::new(to_wire(seen, &call)))
    }

    async fn list_emails(
        &self,
        request: Request<wire::ListEmailsRequest>,
    ) -> Answer<wire::ListEmailsResponse> {
        let (call, (parent, view), page) = Page::open(request, |it, fields| {
            let view = fields.check("view", view(it.view));
            fields.name::<AccountId>("parent", &it.parent).zip(view)
        })?;
        let emails = self.0.list(&call, &parent, &page).await?;
        let key = |email: &Email| email.id.id.to_string();
        let (emails, next_page_token) = page.try_cut(emails, key, |email| {
            Ok::<_, Error>(to_wire(self.0.seen(&call, email, view)?, &call))
        })?;
        Ok(Response::new(wire::ListEmailsResponse {
            emails,
            next_page_token,
        }))
    }
}

fn view(given: i32) -> Result<View, &'static str> {
    match wire::EmailView::try_from(given) {
        Ok(wire::EmailView::Unspecified | wire::EmailView::Basic) => Ok(View::Basic),
        Ok(wire::EmailView::Full) => Ok(View::Full),
        Err(_) => Err("must be a value of EmailView"),
    }
}

fn to_wire(seen: Seen, call: &Call) -> wire::Email {
    use wire::email;

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
    wire::Email {
        name: email.id.to_string(),
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

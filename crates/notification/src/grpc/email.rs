//! EmailService.

use octroi_api::notification::v1 as wire;
use octroi_api::notification::v1::email_service_server::EmailService;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Page, open};
use tonic::{Request, Response};

use crate::app::email::{Emails, RenderedEmail, View};
use crate::domain::email::{Delivery, Email, EmailId, Secret};

pub(crate) struct EmailApi {
    pub(crate) emails: Emails,
}

#[tonic::async_trait]
impl EmailService for EmailApi {
    async fn get_email(&self, request: Request<wire::GetEmailRequest>) -> Answer<wire::Email> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<EmailId>("name", &it.name)
        })?;
        let email = self.emails.get(&call, &id).await?;
        Ok(Response::new((&email).into()))
    }

    async fn list_emails(
        &self,
        request: Request<wire::ListEmailsRequest>,
    ) -> Answer<wire::ListEmailsResponse> {
        let (call, (parent, view), page) = Page::open(request, |it, fields| {
            let view = fields.check("view", view(it.view));
            fields.name::<AccountId>("parent", &it.parent).zip(view)
        })?;
        let emails = self.emails.list(&call, &parent, &page).await?;
        let key = |it: &Email| it.id.id.to_string();
        let (emails, next_page_token) = page.try_cut(emails, key, |it| {
            self.emails.render(&call, it, view).map(|it| (&it).into())
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

impl From<&RenderedEmail> for wire::Email {
    fn from(rendered: &RenderedEmail) -> Self {
        use wire::email;

        let RenderedEmail {
            email,
            message,
            read_at,
        } = rendered;
        let state = match email.delivery {
            Delivery::Queued | Delivery::Sending => email::State::Queued,
            Delivery::Sent { .. } => email::State::Sent,
            Delivery::Failed => email::State::Failed,
            Delivery::Withdrawn => email::State::Withdrawn,
        };
        let secret_state = match (&email.secret, email.secret.readable(*read_at)) {
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
        Self {
            name: email.id.to_string(),
            template: email.content.template().to_owned(),
            recipient,
            locale,
            subject: message.subject.clone(),
            text_body: message.text.clone(),
            html_body: message.html.clone(),
            state: state.into(),
            secret_state: secret_state.into(),
            secret_expire_time: email.secret.expires_at().map(to_proto),
            message_id: email.message_id.clone(),
            attempts: email.attempts,
            last_error: email.last_error.clone(),
            create_time: Some(to_proto(email.effective_at)),
            send_time,
        }
    }
}

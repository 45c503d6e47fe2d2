//! Ids as callers write them: in one form, and named back as they were sent.

use octroi_api::billing::v1::{CreateAccountRequest, GetPaymentMethodRequest};
use octroi_api::notification::v1::GetEmailRequest;
use octroi_tests::harness::{Answer as _, Installation, account};
use tonic::Code;

const CANONICAL: &str = "7d1a0a54-0000-4000-8000-00000000000a";

fn created_with(request_id: &str) -> CreateAccountRequest {
    CreateAccountRequest {
        account_id: "acme".to_owned(),
        account: Some(account("Acme")),
        request_id: request_id.to_owned(),
    }
}

#[tokio::test]
async fn of_requests_are_written_in_one_form() {
    let octroi = Installation::start().await;
    let mut accounts = octroi.operator().accounts();
    for wrong in [
        CANONICAL.replace('-', ""),
        format!("{{{CANONICAL}}}"),
        format!("urn:uuid:{CANONICAL}"),
        format!(" {CANONICAL}"),
        "1".to_owned(),
    ] {
        let refused = accounts
            .create_account(created_with(&wrong))
            .await
            .refused();
        refused.names(&["request_id"]);
    }
    let first = accounts.create_account(created_with(CANONICAL)).await.got();
    let capitals = created_with(&CANONICAL.to_uppercase());
    let again = accounts.create_account(capitals).await.got();
    assert_eq!(first, again);
    octroi.finish().await;
}

/// What is not written as Octroi writes it names nothing.
#[tokio::test]
async fn in_names_are_written_in_one_form() {
    let octroi = Installation::start().await;
    let acme = octroi.newcomer("acme").await;
    let method = acme.pays_with("test-success").await;
    let get = |name: &str| GetPaymentMethodRequest {
        name: name.to_owned(),
    };
    let mut methods = acme.by.payment_methods();
    methods.get_payment_method(get(&method.name)).await.got();
    let undashed = method.name.replace('-', "");
    let refused = methods.get_payment_method(get(&undashed)).await.refused();
    refused.names(&["name"]);
    let email = GetEmailRequest {
        name: format!("accounts/acme/emails/{}", CANONICAL.replace('-', "")),
    };
    acme.by
        .emails()
        .get_email(email)
        .await
        .refused()
        .names(&["name"]);
    octroi.finish().await;
}

/// A token bound to another account is told of nothing that it did not send.
#[tokio::test]
async fn that_nobody_sent_are_not_named() {
    let octroi = Installation::start().await;
    octroi.newcomer("other").await;
    let mut accounts = octroi.bound_to("other").accounts();
    let request = CreateAccountRequest {
        account_id: String::new(),
        ..created_with("")
    };
    let refused = accounts.create_account(request).await.refused();
    refused.names(&["account_id"]);
    let rule = "account_id must be the account that the token is bound to";
    assert_eq!(refused.message, rule);
    let refused = accounts.create_account(created_with("")).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    assert_eq!(refused.message, "accounts/acme was not found");
    octroi.finish().await;
}

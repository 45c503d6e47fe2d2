//! Accounts, which everything else belongs to, and their ways to pay.

use octroi_api::billing::v1::{
    Account, CreateAccountRequest, CreatePaymentMethodRequest, GetAccountRequest,
    GetPaymentMethodRequest, ListAccountsRequest, ListPaymentMethodsRequest, NewPaymentMethod,
    PaymentMethod, PostalAddress, UpdateAccountRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Installation, account, method, request_id,
};
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

#[tokio::test]
async fn an_account_is_opened() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let given = Account {
        locale: String::new(),
        time_zone: String::new(),
        vat_number: "FR40303265045".to_owned(),
        ..account("Acme SAS")
    };
    let opened = creates(&by, "acme", given.clone()).await.got();
    assert_eq!(opened.name, "accounts/acme");
    assert_eq!(opened.currency_code, "EUR", "the seller's");
    assert_eq!(
        (opened.seller.as_str(), opened.time_zone.as_str()),
        ("sellers/specimen", "Europe/Paris")
    );
    assert_eq!(opened.locale, "fr");
    assert_eq!(
        (&opened.address, &opened.vat_number),
        (&given.address, &given.vat_number)
    );
    assert!(opened.create_time.is_some() && !opened.etag.is_empty());
    let name = opened.name.clone();
    assert_eq!(
        by.accounts()
            .get_account(GetAccountRequest { name })
            .await
            .got(),
        opened
    );
    let refused = creates(&by, "acme", given.clone()).await.refused();
    refused.is(Code::AlreadyExists, "ALREADY_EXISTS");
    let made = creates(&by, "", given).await.got();
    assert_ne!(made.name, opened.name);
    let listed = by
        .accounts()
        .list_accounts(ListAccountsRequest::default())
        .await
        .got()
        .accounts;
    let mut names: Vec<_> = listed.iter().map(|it| it.name.clone()).collect();
    let sorted = names.clone();
    names.sort();
    assert_eq!(names, sorted);
    assert_eq!(listed.len(), 2);
    let name = "accounts/nobody".to_owned();
    let refused = by
        .accounts()
        .get_account(GetAccountRequest { name })
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let octroi = Installation::start().await;
    let by = octroi.operator();
    let bad = Account {
        legal_name: " ".to_owned(),
        contact_email: "nobody".to_owned(),
        address: Some(PostalAddress {
            lines: vec![],
            postal_code: "x".repeat(21),
            city: String::new(),
            country_code: "France".to_owned(),
        }),
        vat_number: "FR1".to_owned(),
        currency_code: "FRF".to_owned(),
        seller: "somebody".to_owned(),
        locale: "de".to_owned(),
        time_zone: "Europe/Atlantis".to_owned(),
        ..Account::default()
    };
    let request = CreateAccountRequest {
        account_id: "Acme!".to_owned(),
        account: Some(bad.clone()),
        request_id: "1".to_owned(),
    };
    by.accounts()
        .create_account(request)
        .await
        .refused()
        .names(&[
            "account_id",
            "account.legal_name",
            "account.contact_email",
            "account.address.lines",
            "account.address.postal_code",
            "account.address.city",
            "account.address.country_code",
            "account.vat_number",
            "account.currency_code",
            "account.seller",
            "account.locale",
            "account.time_zone",
            "request_id",
        ]);
    let nothing = by
        .accounts()
        .create_account(CreateAccountRequest::default())
        .await
        .refused();
    assert!(
        nothing.fields.contains(&"account".to_owned()),
        "{nothing:?}"
    );
    let unknown = Account {
        seller: "sellers/nobody".to_owned(),
        ..account("Acme")
    };
    creates(&by, "acme", unknown)
        .await
        .refused()
        .names(&["account.seller"]);
    creates(&by, "acme", account("Acme")).await.got();
    let bad = Account {
        name: "accounts/acme".to_owned(),
        ..bad
    };
    let refused = updates(&by, bad, &["legal_name", "locale", "name"])
        .await
        .refused();
    refused.names(&["account.legal_name", "account.locale", "update_mask"]);
    let unseen = Account {
        name: "accounts/acme".to_owned(),
        legal_name: "\u{3164}".to_owned(),
        ..Account::default()
    };
    let refused = updates(&by, unseen, &["legal_name"]).await.refused();
    refused.names(&["account.legal_name"]);
    let unmasked = Account {
        name: "acme".to_owned(),
        ..Account::default()
    };
    updates(&by, unmasked, &[])
        .await
        .refused()
        .names(&["account.name", "update_mask"]);
    octroi.finish().await;
}

#[tokio::test]
async fn an_account_is_changed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let by = &acme.by;
    let name = acme.name();
    let before = by
        .accounts()
        .get_account(GetAccountRequest { name })
        .await
        .got();
    let wanted = Account {
        legal_name: "Acme Holding".to_owned(),
        locale: "fr".to_owned(),
        ..before.clone()
    };
    let changed = updates(by, wanted.clone(), &["legal_name", "locale"])
        .await
        .got();
    assert_eq!(
        (changed.legal_name.as_str(), changed.locale.as_str()),
        ("Acme Holding", "fr")
    );
    assert_ne!(changed.etag, before.etag);
    let refused = updates(by, wanted, &["legal_name"]).await.refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    let missing = Account {
        name: "accounts/nobody".to_owned(),
        ..account("Nobody")
    };
    let refused = updates(by, missing, &["legal_name"]).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");

    // Currency and seller are free until the first order, and fixed from then on.
    let dollars = |currency: &str| Account {
        name: acme.name(),
        currency_code: currency.to_owned(),
        ..Account::default()
    };
    assert_eq!(
        updates(by, dollars("USD"), &["currency_code"])
            .await
            .got()
            .currency_code,
        "USD"
    );
    let refused = acme
        .asks_for(
            "o1",
            octroi_tests::harness::new_group("office"),
            &[(BUSINESS, 1)],
        )
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "PRICE_MISSING");
    updates(by, dollars("EUR"), &["currency_code"]).await.got();
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let refused = updates(by, dollars("USD"), &["currency_code"])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "ACCOUNT_FIXED");
    octroi.finish().await;
}

#[tokio::test]
async fn ways_to_pay() {
    let octroi = Installation::start().await;
    let acme = octroi.newcomer("acme").await;
    let put = |token: &str, display_name: &str, make_default| CreatePaymentMethodRequest {
        parent: acme.name(),
        payment_method: Some(NewPaymentMethod {
            display_name: display_name.to_owned(),
            ..method(token)
        }),
        make_default,
        request_id: request_id(),
    };
    let mut methods = acme.by.payment_methods();
    let first = methods
        .create_payment_method(put("test-success", "Visa 4242", false))
        .await
        .got();
    assert!(first.default, "the first one");
    assert_eq!(
        (first.display_name.as_str(), first.gateway.as_str()),
        ("Visa 4242", "test")
    );
    let second = methods
        .create_payment_method(put("test-processing", "", false))
        .await
        .got();
    assert!(!second.default);
    assert_eq!(
        second.display_name, "Test card",
        "its token is shown nowhere"
    );
    let third = methods
        .create_payment_method(put("test-success", "Mastercard", true))
        .await
        .got();
    assert!(third.default);
    let list = ListPaymentMethodsRequest {
        parent: acme.name(),
        ..ListPaymentMethodsRequest::default()
    };
    let listed = methods
        .list_payment_methods(list)
        .await
        .got()
        .payment_methods;
    let told: Vec<_> = listed
        .iter()
        .map(|it| (it.name.as_str(), it.default))
        .collect();
    assert_eq!(
        told,
        [
            (&*first.name, false),
            (&*second.name, false),
            (&*third.name, true)
        ]
    );
    let name = third.name.clone();
    let got: PaymentMethod = methods
        .get_payment_method(GetPaymentMethodRequest { name })
        .await
        .got();
    assert_eq!(got, listed[2]);

    let refused = methods
        .create_payment_method(put("4242", "x\n", false))
        .await
        .refused();
    refused.names(&[
        "payment_method.gateway_token",
        "payment_method.display_name",
    ]);
    let nobody = CreatePaymentMethodRequest {
        parent: "accounts/nobody".to_owned(),
        ..put("test-success", "", false)
    };
    let refused = methods.create_payment_method(nobody).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    let name = format!(
        "{}/paymentMethods/01890000-0000-7000-8000-000000000000",
        acme.name()
    );
    let refused = methods
        .get_payment_method(GetPaymentMethodRequest { name })
        .await
        .refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

async fn creates(by: &Caller, id: &str, account: Account) -> Result<Response<Account>, Status> {
    let request = CreateAccountRequest {
        account_id: id.to_owned(),
        account: Some(account),
        request_id: request_id(),
    };
    by.accounts().create_account(request).await
}

async fn updates(
    by: &Caller,
    account: Account,
    paths: &[&str],
) -> Result<Response<Account>, Status> {
    let request = UpdateAccountRequest {
        account: Some(account),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        request_id: request_id(),
    };
    by.accounts().update_account(request).await
}

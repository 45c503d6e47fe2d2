//! What operators' machines see: metrics, health, and the access log.

use std::io::{Result, Write};
use std::sync::Mutex;
use std::time::Duration;

use octroi_api::billing::v1::CreateAccountRequest;
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, GetOfferRequest, ListLicenseGroupsRequest, ListOffersRequest,
    ListOrdersRequest, ListOwnDevicesRequest, SignInRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, Options, ServiceName, account,
    eventually, within,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

/// The lines of the access log that tell of [`WATCHED`] or [`TRACE`].
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Who calls in the test of the log, and nobody else in this program.
const WATCHED: &str = "somebody-watched";
/// The only trace.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn watched() -> Installation {
    Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    let mut offers = octroi.operator().offers();
    for name in [BUSINESS, "offers/none"] {
        let name = name.to_owned();
        let _ = offers.get_offer(GetOfferRequest { name }).await;
    }
    let method = "octroi.licensing.v1.OfferService/GetOffer";
    // The last byte has left before its call is counted.
    for (code, calls) in [("Ok", 1.0), ("NotFound", 1.0)] {
        let series = format!("octroi_calls_total{{method=\"{method}\",code=\"{code}\"}}");
        eventually("the call is counted", async || {
            (licensing.shows(&series).await == Some(calls)).then_some(())
        })
        .await;
    }
    let of_method = |name: &str| format!("{name}{{method=\"{method}\"}}");
    let count = of_method("octroi_call_duration_seconds_count");
    assert_eq!(licensing.shows(&count).await, Some(2.0));
    let under_way = of_method("octroi_calls_in_flight");
    assert_eq!(licensing.shows(&under_way).await, Some(0.0));
    octroi.finish().await;
}

/// Whoever asks for what there is not makes no label of it.
#[tokio::test]
async fn methods_that_nobody_has_are_counted_as_one() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    let operator = octroi.operator();
    for eaten in 0..3 {
        let path = format!("/octroi.licensing.v1.OrderService/EatOrder{eaten}");
        let call = operator.call(ServiceName::Licensing, &path, Vec::new());
        assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
    }
    let series = "octroi_calls_total{method=\"unknown\",code=\"Unimplemented\"}";
    eventually("the calls are counted", async || {
        (licensing.shows(series).await == Some(3.0)).then_some(())
    })
    .await;
    let metrics = licensing.metrics().await;
    assert!(!metrics.contains("EatOrder"), "{metrics}");
    octroi.finish().await;
}

#[tokio::test]
async fn what_a_subscriber_has_not_taken_shows() {
    let mut octroi = watched().await;
    let billing = octroi.watched(ServiceName::Billing);
    let of_notification = |name: &str| format!("octroi_{name}{{subscriber=\"notification\"}}");
    let shows = async |name: &str| billing.shows(&of_notification(name)).await.unwrap();
    octroi.drained().await;
    assert_eq!(shows("deliveries").await, 0.0);
    octroi.stop(ServiceName::Notification).await;
    octroi.customer("acme").await;
    let waiting = shows("deliveries").await;
    assert!(waiting >= 1.0);
    assert_eq!(shows("dead_letters").await, 0.0);
    let age = "UPDATE billing.delivery SET parked = true, created_at = clock_timestamp() - interval '1 hour'
               WHERE subscriber = 'notification'";
    octroi.sql.batch_execute(age).await.unwrap();
    assert_eq!(shows("dead_letters").await, waiting);
    assert!((3600.0..3900.0).contains(&shows("delivery_age_seconds").await));
    let mend = "UPDATE billing.delivery SET parked = false";
    octroi.sql.batch_execute(mend).await.unwrap();
    octroi.restart(ServiceName::Notification).await;
    octroi.drained().await;
    octroi.finish().await;
}

/// What cannot be read is left out, and keeps neither a connection nor who else asks.
#[tokio::test]
async fn a_scrape_of_what_is_locked_ends() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    let lock = "BEGIN; LOCK TABLE licensing.delivery IN ACCESS EXCLUSIVE MODE";
    octroi.sql.batch_execute(lock).await.unwrap();
    let scrapes: JoinSet<_> = (0..16).map(|_| licensing.get("/metrics")).collect();
    let scrapes = scrapes.join_all().await;
    let (told, put_off): (Vec<_>, Vec<_>) = scrapes.iter().partition(|scrape| scrape.0 == 200);
    assert!(!told.is_empty());
    for (_, text) in told {
        assert!(text.contains("octroi_db_connections{"), "{text}");
        assert!(!text.contains("octroi_deliveries{"), "{text}");
    }
    assert!(put_off.iter().all(|scrape| scrape.0 == 503), "{put_off:?}");
    // Less long than statements of others may wait for a lock.
    let reading = "SELECT pg_stat_clear_snapshot(), count(*) FROM pg_stat_activity
                   WHERE state = 'active' AND application_name = 'octroi-licensing' AND query LIKE '-- backlog%'";
    within(Duration::from_secs(5), "nothing is read", async || {
        let row = octroi.sql.query_one(reading, &[]).await.unwrap();
        (row.get::<_, i64>(1) == 0).then_some(())
    })
    .await;
    octroi.sql.batch_execute("ROLLBACK").await.unwrap();
    eventually("it is read again", async || {
        let deliveries = "octroi_deliveries{subscriber=\"billing\"}";
        licensing.shows(deliveries).await
    })
    .await;
    octroi.finish().await;
}

/// The gauges of each service are there, and bounded.
#[tokio::test]
async fn each_service_shows_what_it_works_on() {
    let octroi = watched().await;
    octroi.customer("acme").await;
    octroi.mailed().await;
    for (service, series, shown) in [
        (
            ServiceName::Licensing,
            "octroi_password_hashing{state=\"busy\"}",
            0.0,
        ),
        (ServiceName::Licensing, "octroi_db_connections_max{}", 8.0),
        (
            ServiceName::Licensing,
            "octroi_db_waiting{share=\"commands\"}",
            0.0,
        ),
        (
            ServiceName::Billing,
            "octroi_bill_run_accounts{outcome=\"failed\"}",
            0.0,
        ),
        (
            ServiceName::Notification,
            "octroi_email_overdue_seconds{state=\"new\"}",
            0.0,
        ),
    ] {
        let watched = octroi.watched(service);
        assert_eq!(watched.shows(series).await, Some(shown), "{series}");
        assert_eq!(watched.get("/healthz").await.0, 200);
        assert_eq!(watched.get("/readyz").await.0, 200);
        assert_eq!(watched.get("/").await.0, 404);
    }
    octroi.finish().await;
}

struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.contains(WATCHED) || text.contains(TRACE) {
            LOG.lock().unwrap().push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn keep_the_log() {
    // Whichever test comes first.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(
            "access=info,octroi_server=info,octroi_platform=info,octroi_notification=info",
        )
        .with_writer(|| Log)
        .try_init();
}

/// The one line about a method's only call by somebody.
async fn logged(method: &str, caller: &str) -> Value {
    eventually("the call is logged", async || {
        let log = LOG.lock().unwrap();
        let lines = log.iter().map(|line| serde_json::from_str(line).unwrap());
        let mut lines = lines.filter(|line: &Value| {
            let fields = &line["fields"];
            line["target"] == "access" && fields["method"] == method && fields["caller"] == caller
        });
        let line = lines.next()?;
        assert_eq!(lines.next(), None, "one line a call");
        Some(line)
    })
    .await
}

#[tokio::test]
async fn a_call_is_one_line_of_the_access_log() {
    keep_the_log();
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let token = octroi.token_named(WATCHED);
    let watched = octroi.stranger().with_token(&token);
    let request_id = Uuid::now_v7().to_string();
    let request = ActivateLicenseRequest {
        password: CHOSEN.to_owned(),
        request_id: request_id.clone(),
        ..acme.activation("office", 1, "sales")
    };
    watched.licenses().activate_license(request).await.got();
    let name = "offers/none".to_owned();
    let _ = watched.offers().get_offer(GetOfferRequest { name }).await;
    // Ids of one letter are ids; "-" is none. A user of the portal names nothing but the session.
    let list = ListOrdersRequest {
        parent: "accounts/a".to_owned(),
        ..ListOrdersRequest::default()
    };
    let _ = watched.orders().list_orders(list).await;
    let list = ListLicenseGroupsRequest {
        parent: "accounts/-".to_owned(),
        ..ListLicenseGroupsRequest::default()
    };
    let _ = watched.groups().list_license_groups(list).await;
    let session = acme.signs_in("sales@office.acme.users.octroi.example", CHOSEN);
    let user = watched.with_session(&session.await.got().session_token);
    let devices = ListOwnDevicesRequest::default();
    let _ = user.portal().list_own_devices(devices).await;
    for (method, code, account, request_id) in [
        ("LicenseService/ActivateLicense", "Ok", "acme", &*request_id),
        ("OfferService/GetOffer", "NotFound", "", ""),
        ("OrderService/ListOrders", "NotFound", "a", ""),
        ("LicenseGroupService/ListLicenseGroups", "NotFound", "", ""),
        (
            "PortalService/ListOwnDevices",
            "FailedPrecondition",
            "acme",
            "",
        ),
    ] {
        let method = format!("octroi.licensing.v1.{method}");
        let mut line = logged(&method, WATCHED).await["fields"].take();
        let duration = line["duration"].take();
        assert!(duration.as_f64().is_some_and(|it| it > 0.0), "{duration}");
        let told = json!({
            "method": method,
            "code": code,
            "duration": null,
            "caller": WATCHED,
            "account": account,
            "request_id": request_id,
        });
        assert_eq!(line, told);
    }
    let log = LOG.lock().unwrap().concat();
    assert!(!log.contains(CHOSEN) && !log.contains(&token), "{log}");
    octroi.finish().await;
}

/// Licensing hands it to billing, and tells it with what happened: notification queues the e-mail in the trace.
#[tokio::test]
async fn a_trace_goes_through_calls_and_events() {
    keep_the_log();
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let traced = Customer {
        id: acme.id.clone(),
        by: acme.by.with_trace(TRACE),
    };
    traced.buys("office", &[(BUSINESS, 1)]).await;
    let settle = "octroi.billing.v1.SettlementService/SettleOrder";
    let settled = logged(settle, "service:licensing").await;
    assert_eq!(settled["span"]["traceparent"], TRACE);
    assert_eq!(settled["span"]["service"], "billing");
    assert_eq!(settled["fields"]["account"], "acme");
    let quote = "octroi.billing.v1.SettlementService/QuoteOrder";
    let quoted = logged(quote, "service:licensing").await;
    assert_eq!(quoted["fields"]["account"], "acme");
    let events = acme.events(ServiceName::Licensing).await;
    assert!(!events.is_empty());
    assert!(
        events.iter().all(|event| event.traceparent == TRACE),
        "{events:?}"
    );
    let email = acme.receives("order-completed", 1).await;
    let queued = LOG.lock().unwrap().iter().any(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["fields"]["email"] == email.name && line["span"]["traceparent"] == TRACE
    });
    assert!(queued, "{}", email.name);
    octroi.finish().await;
}

/// What a call names only when it is read is told too, whether it does what it asks for or not.
#[tokio::test]
async fn the_access_log_names_the_account_of_each_call() {
    keep_the_log();
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    let by = |who: &str| {
        let token = octroi.token_named(&format!("{WATCHED}-{who}"));
        octroi.stranger().with_token(&token)
    };
    let create = |account_id: &str| CreateAccountRequest {
        account_id: account_id.to_owned(),
        account: Some(account("Acme SAS")),
        ..CreateAccountRequest::default()
    };
    let created = async |who: &str, account_id: &str| {
        let mut accounts = by(who).accounts();
        accounts.create_account(create(account_id)).await
    };
    created("given", "beta").await.got();
    created("taken", "acme").await.refused();
    let made = created("made", "").await.got().name;
    let made = made.trim_start_matches("accounts/");
    let signed_in = async |who: &str, activation_email: &str| {
        let sign_in = SignInRequest {
            activation_email: activation_email.to_owned(),
            password: CHOSEN.to_owned(),
            ..SignInRequest::default()
        };
        by(who).portal().sign_in(sign_in).await
    };
    signed_in("known", &address).await.got();
    let nobody = address.replace("sales", "nobody");
    signed_in("unknown", &nobody).await.refused();
    signed_in("typed", "nobody@any.Thing!").await.refused();
    let create = "octroi.billing.v1.AccountService/CreateAccount";
    let sign_in = "octroi.licensing.v1.PortalService/SignIn";
    for (method, who, account) in [
        (create, "given", "beta"),
        (create, "taken", "acme"),
        (create, "made", made),
        (sign_in, "known", "acme"),
        (sign_in, "unknown", "acme"),
        (sign_in, "typed", ""),
    ] {
        let line = logged(method, &format!("{WATCHED}-{who}")).await;
        assert_eq!(line["fields"]["account"], account, "{line}");
        let service = method.split('.').nth(1).unwrap();
        assert_eq!(line["span"]["service"], service, "{line}");
    }
    octroi.finish().await;
}

/// A call that is refused before it is known whose it is has its caller's trace all the same; one that came without a
/// trace begins one, which goes into what it records.
#[tokio::test]
async fn each_call_has_a_trace() {
    keep_the_log();
    let octroi = Installation::start().await;
    let stranger = octroi.stranger().with_trace(TRACE);
    let list = ListOffersRequest::default();
    stranger.offers().list_offers(list).await.refused();
    let offers = "octroi.licensing.v1.OfferService/ListOffers";
    let refused = logged(offers, "").await;
    assert_eq!(refused["fields"]["code"], "Unauthenticated");
    assert_eq!(refused["span"]["traceparent"], TRACE);
    let token = octroi.token_named(&format!("{WATCHED}-lost"));
    let lost = octroi.stranger().with_token(&token).with_trace(TRACE);
    let path = "/octroi.licensing.v1.OrderService/EatOrder";
    let call = lost.call(ServiceName::Licensing, path, Vec::new());
    call.await.unwrap_err();
    let refused = logged("unknown", &format!("{WATCHED}-lost")).await;
    assert_eq!(refused["span"]["traceparent"], TRACE);

    let token = octroi.token_named(&format!("{WATCHED}-alone"));
    let alone = octroi.stranger().with_token(&token);
    let create = CreateAccountRequest {
        account_id: "acme".to_owned(),
        account: Some(account("Acme SAS")),
        ..CreateAccountRequest::default()
    };
    alone.accounts().create_account(create).await.got();
    let create = "octroi.billing.v1.AccountService/CreateAccount";
    let line = logged(create, &format!("{WATCHED}-alone")).await;
    let acme = Customer {
        id: "acme".to_owned(),
        by: octroi.operator(),
    };
    let events = acme.events(ServiceName::Billing).await;
    let trace = &line["span"]["traceparent"];
    assert_eq!(trace.as_str().unwrap().len(), TRACE.len());
    assert!(
        events.iter().all(|event| event.traceparent == *trace),
        "{trace} {events:?}"
    );
    octroi.finish().await;
}

/// Metrics and health are read, and nothing else.
#[tokio::test]
async fn what_is_told_is_not_written_to() {
    let octroi = watched().await;
    let licensing = octroi.watched(ServiceName::Licensing);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(licensing.asked("POST", path).await.0, 405, "{path}");
        assert_eq!(licensing.get(path).await.0, 200, "{path}");
    }
    octroi.finish().await;
}

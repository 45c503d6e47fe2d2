//! "Sign in", too often wrong: what fails is counted per login, per address and overall, and shuts out for a while; what
//! is refused is counted nowhere. Throttles live on the machine's clock, so their instants are moved by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use octroi_api::licensing::v1::{ChangeOwnPasswordRequest, SignInRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Customer, Installation, Refused, request_id,
};
use tokio::task::JoinSet;
use tonic::Code;

/// Where honest users sign in from.
const OFFICE: &str = "192.0.2.7";
/// Where others try.
const ELSEWHERE: &str = "198.51.100.9";

/// One address, one unknown login, many tries: five come as far as the password, and the others cost nobody anything.
#[tokio::test]
async fn what_is_refused_is_not_counted() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let honest = honest(&acme, &["sales"]).await.remove(0);
    for at in 0..30 {
        let refused = tries(&acme, ELSEWHERE, "nobody@nowhere.test").await;
        let expected = if at < 5 {
            "SIGN_IN_FAILED"
        } else {
            "SIGN_IN_THROTTLED"
        };
        assert_eq!(refused.reason, expected, "try {at}");
    }
    let counted = counted(&octroi).await;
    assert_eq!(
        counted,
        told(&[("CLIENT", 5), ("LOGIN", 5), ("OVERALL", 5)])
    );

    // The address is shut with its fiftieth failure. After that not even a login that nobody tried is remembered.
    let nearly = "UPDATE licensing.sign_in_failure SET failures = 49 WHERE kind = 'CLIENT'";
    octroi.sql.execute(nearly, &[]).await.unwrap();
    let refused = tries(&acme, ELSEWHERE, "somebody@nowhere.test").await;
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    for at in 0..20 {
        let refused = tries(&acme, ELSEWHERE, &format!("other{at}@nowhere.test")).await;
        refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
        let retry = refused.retry.unwrap();
        assert!(
            retry > Duration::from_secs(50) && retry <= Duration::from_secs(60),
            "{retry:?}"
        );
    }
    let counted = self::counted(&octroi).await;
    assert_eq!(
        counted,
        told(&[("CLIENT", 50), ("LOGIN", 6), ("OVERALL", 6)])
    );
    let logins = "SELECT count(*) FROM licensing.sign_in_failure WHERE kind = 'LOGIN'";
    let logins: i64 = octroi.sql.query_one(logins, &[]).await.unwrap().get(0);
    assert_eq!(logins, 2);

    // From there the right password does not help either; from elsewhere it does.
    let refused = tries_with(&acme, ELSEWHERE, &honest, CHOSEN)
        .await
        .refused();
    refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    tries_with(&acme, OFFICE, &honest, CHOSEN).await.got();
    octroi.finish().await;
}

/// Many at once are no more than five for each login, and the installation's share counts those alone.
#[tokio::test]
async fn many_at_once() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let mut all = JoinSet::new();
    for at in 0..60 {
        let acme = acme.clone();
        let address = format!("nobody{}@nowhere.test", at % 3);
        all.spawn(async move { tries(&acme, ELSEWHERE, &address).await.reason });
    }
    let reasons = by_reason(all).await;
    let expected = told(&[("SIGN_IN_FAILED", 15), ("SIGN_IN_THROTTLED", 45)]);
    assert_eq!(reasons, expected);
    let counted = counted(&octroi).await;
    assert_eq!((counted["LOGIN"], counted["OVERALL"]), (15, 15));
    octroi.finish().await;
}

/// A sign-in that succeeds is given back: its login begins anew, and the wider counts are as they were before.
#[tokio::test]
async fn what_succeeds_is_given_back() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let honest = honest(&acme, &["sales"]).await.remove(0);
    for round in 1..=2 {
        for _ in 0..4 {
            let refused = tries(&acme, OFFICE, &honest).await;
            refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
        }
        tries_with(&acme, OFFICE, &honest, CHOSEN).await.got();
        let failed = 4 * round;
        let expected = told(&[("CLIENT", failed), ("LOGIN", 0), ("OVERALL", failed)]);
        assert_eq!(counted(&octroi).await, expected);
    }
    // Also where the throttle would have closed with it.
    let nearly = "UPDATE licensing.sign_in_failure SET failures = 49 WHERE kind = 'CLIENT'";
    octroi.sql.execute(nearly, &[]).await.unwrap();
    for _ in 0..3 {
        tries_with(&acme, OFFICE, &honest, CHOSEN).await.got();
    }
    octroi.finish().await;
}

/// A shut throttle opens, shuts for twice as long with the next failure, and forgets with the end of its window.
#[tokio::test]
async fn a_window_ends() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let honest = honest(&acme, &["sales"]).await.remove(0);
    let shut = async |seconds: u64| {
        let refused = tries_with(&acme, OFFICE, &honest, CHOSEN).await.refused();
        refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
        let retry = refused.retry.unwrap();
        let (least, most) = (
            Duration::from_secs(seconds - 10),
            Duration::from_secs(seconds),
        );
        assert!(least < retry && retry <= most, "{retry:?}");
    };
    for _ in 0..5 {
        tries(&acme, OFFICE, &honest).await;
    }
    shut(60).await;
    let reopen = "UPDATE licensing.sign_in_failure SET blocked_until = clock_timestamp()";
    octroi.sql.execute(reopen, &[]).await.unwrap();
    let refused = tries(&acme, OFFICE, &honest).await;
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    shut(120).await;
    let forget = "UPDATE licensing.sign_in_failure
                  SET blocked_until = clock_timestamp(), forget_at = clock_timestamp()";
    octroi.sql.execute(forget, &[]).await.unwrap();
    for _ in 0..4 {
        let refused = tries(&acme, OFFICE, &honest).await;
        refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    }
    assert_eq!(
        counted(&octroi).await,
        told(&[("CLIENT", 4), ("LOGIN", 4), ("OVERALL", 4)])
    );
    tries_with(&acme, OFFICE, &honest, CHOSEN).await.got();
    octroi.finish().await;
}

/// What the whole installation may fail is spread over shares: one that is shut keeps out its own logins alone.
#[tokio::test]
async fn a_share_of_the_installation() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let honest = honest(&acme, &["sales", "night", "day", "desk", "front"]).await;
    let mut shares = BTreeMap::new();
    for address in &honest {
        let share = "SELECT get_byte(sha256(convert_to($1, 'UTF8')), 0) % 16";
        let share: i32 = octroi
            .sql
            .query_one(share, &[address])
            .await
            .unwrap()
            .get(0);
        shares.entry(share).or_insert(address);
    }
    let mut shares = shares.into_values();
    let (shut, open) = (shares.next().unwrap(), shares.next().unwrap());
    let nearly =
        "INSERT INTO licensing.sign_in_failure (kind, subject, failures, blocked_until, forget_at)
                  SELECT 'OVERALL', sha256(set_byte('\\x00', 0, share)), 299, clock_timestamp(),
                         clock_timestamp() + interval '15 minutes'
                  FROM generate_series(0, 15) share";
    octroi.sql.execute(nearly, &[]).await.unwrap();
    tries(&acme, ELSEWHERE, shut)
        .await
        .is(Code::Unauthenticated, "SIGN_IN_FAILED");
    let refused = tries_with(&acme, OFFICE, shut, CHOSEN).await.refused();
    refused.is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    assert!(refused.retry.unwrap() <= Duration::from_secs(5));
    tries_with(&acme, OFFICE, open, CHOSEN).await.got();
    let reopen = "UPDATE licensing.sign_in_failure SET blocked_until = clock_timestamp()";
    octroi.sql.execute(reopen, &[]).await.unwrap();
    for _ in 0..2 {
        tries_with(&acme, OFFICE, shut, CHOSEN).await.got();
    }
    octroi.finish().await;
}

/// Guesses at the password from inside a session count before they are tried, so that many at once are no more than
/// five. The same request sent again is no further guess.
#[tokio::test]
async fn guesses_at_ones_own_password() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let honest = honest(&acme, &["sales"]).await.remove(0);
    let user = acme.user(&honest, CHOSEN).await;
    let one = request_id();
    let twins = (0..20).map(|_| change("Guess-Number-0", &one));
    let reasons = at_once(&user, twins).await;
    assert_eq!(reasons, told(&[("SIGN_IN_FAILED", 20)]));
    let login =
        "SELECT failures FROM licensing.sign_in_failure WHERE kind = 'LOGIN' AND failures > 0";
    let failures: i32 = octroi.sql.query_one(login, &[]).await.unwrap().get(0);
    assert_eq!(failures, 1);
    let guesses = (1..=40).map(|at| change(&format!("Guess-Number-{at}"), &request_id()));
    let reasons = at_once(&user, guesses).await;
    assert_eq!(
        reasons,
        told(&[("SIGN_IN_FAILED", 4), ("SIGN_IN_THROTTLED", 36)])
    );
    let right = user.portal().change_own_password(change(CHOSEN, "")).await;
    right
        .refused()
        .is(Code::ResourceExhausted, "SIGN_IN_THROTTLED");
    // Nobody outside is kept from signing in by it.
    acme.signs_in(&honest, CHOSEN).await.got();
    let reopen = "UPDATE licensing.sign_in_failure SET blocked_until = clock_timestamp()";
    octroi.sql.execute(reopen, &[]).await.unwrap();
    let right = user.portal().change_own_password(change(CHOSEN, "")).await;
    right.got();
    assert_eq!(
        octroi.sql.query(login, &[]).await.unwrap().len(),
        0,
        "given back"
    );
    octroi.finish().await;
}

/// Users of licences in a new group "office", by their addresses.
async fn honest(acme: &Customer, logins: &[&str]) -> Vec<String> {
    acme.buys("office", &[(BUSINESS, 5)]).await;
    let mut addresses = Vec::new();
    for (at, login) in logins.iter().enumerate() {
        let number = i32::try_from(at).unwrap() + 1;
        addresses.push(
            acme.activates("office", number, login)
                .await
                .activation_email,
        );
    }
    addresses
}

async fn tries(acme: &Customer, from: &str, address: &str) -> Refused {
    tries_with(acme, from, address, "Wrong-Password-1")
        .await
        .refused()
}

async fn tries_with(
    acme: &Customer,
    from: &str,
    address: &str,
    password: &str,
) -> Result<tonic::Response<octroi_api::licensing::v1::SignInResponse>, tonic::Status> {
    let request = SignInRequest {
        activation_email: address.to_owned(),
        password: password.to_owned(),
        client_address: from.to_owned(),
    };
    acme.by.portal().sign_in(request).await
}

fn change(current: &str, request_id: &str) -> ChangeOwnPasswordRequest {
    ChangeOwnPasswordRequest {
        current_password: current.to_owned(),
        new_password: "Green-Lantern-7".to_owned(),
        request_id: request_id.to_owned(),
    }
}

/// Refusals by reason.
async fn at_once(
    user: &Caller,
    guesses: impl Iterator<Item = ChangeOwnPasswordRequest>,
) -> BTreeMap<String, i64> {
    let mut all = JoinSet::new();
    for guess in guesses {
        let user = user.clone();
        all.spawn(async move {
            user.portal()
                .change_own_password(guess)
                .await
                .refused()
                .reason
        });
    }
    by_reason(all).await
}

async fn by_reason(mut refusals: JoinSet<String>) -> BTreeMap<String, i64> {
    let mut reasons = BTreeMap::new();
    while let Some(reason) = refusals.join_next().await {
        *reasons.entry(reason.unwrap()).or_default() += 1;
    }
    reasons
}

/// How many failures are counted, by kind.
async fn counted(octroi: &Installation) -> BTreeMap<String, i64> {
    let sql = "SELECT kind, sum(failures)::bigint FROM licensing.sign_in_failure GROUP BY kind";
    let rows = octroi.sql.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn told(counts: &[(&str, i64)]) -> BTreeMap<String, i64> {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

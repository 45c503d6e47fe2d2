//! Many passwords at once: each takes a core for a while, and nobody waits for that who brings none, or whose request can
//! be answered without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use octroi_api::licensing::v1::{
    ActivateLicenseRequest, ChangePasswordRequest, License, SignInRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Caller, Customer, Installation, Refused, eventually, request_id,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Response, Status};

/// More than a service works on at once.
const CROWD: usize = 700;
/// Over so many connections: each carries 256 calls at most.
const CONNECTIONS: usize = 5;
/// More than one account may crowd with: as many as wait, and as many as hash.
const CROWDING: usize = 400;
/// Nearly as many as can wait for their turn on any machine.
const QUEUE: usize = 60;

/// One who calls over a connection of their own, for each connection.
fn callers(octroi: &Installation) -> Vec<Caller> {
    (0..CONNECTIONS).map(|_| octroi.operator()).collect()
}

/// A wrong password for a login that nobody else tries.
async fn tries(by: Caller, login: usize) -> Refused {
    let request = SignInRequest {
        activation_email: format!("nobody{login}@nowhere.test"),
        password: "Wooden-Chair-42".to_owned(),
        client_address: String::new(),
    };
    by.portal().sign_in(request).await.refused()
}

/// Many who call again and again until they find no place, or until it is enough. Each leaves with what they were refused
/// with last, if they were.
struct Crowd {
    enough: Arc<AtomicBool>,
    calling: JoinSet<Option<Refused>>,
}

impl Crowd {
    /// So many, each of whom calls so.
    fn of<F>(many: usize, call: impl Fn(usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Refused>> + Send + 'static,
    {
        let (enough, call) = (Arc::new(AtomicBool::new(false)), Arc::new(call));
        let mut calling = JoinSet::new();
        for at in 0..many {
            let (enough, call) = (Arc::clone(&enough), Arc::clone(&call));
            calling.spawn(async move {
                loop {
                    let refused = call(at).await;
                    let found_none = refused.as_ref().is_some_and(|it| {
                        matches!(it.code, Code::ResourceExhausted | Code::Unavailable)
                    });
                    if found_none || enough.load(Ordering::SeqCst) {
                        return refused;
                    }
                }
            });
        }
        Self { enough, calling }
    }

    /// Waits until there is no place for one of them, does this while the others go on, and lets them end; what each was
    /// refused with.
    async fn beside(mut self, work: impl Future<Output = ()>) -> Vec<Refused> {
        let full = timeout(Duration::from_secs(60), self.calling.join_next()).await;
        let full = full.unwrap().unwrap().unwrap().unwrap();
        told_to_come_again(&full);
        work.await;
        self.enough.store(true, Ordering::SeqCst);
        let others = self.calling.join_all().await.into_iter().flatten();
        others.chain([full]).collect()
    }
}

/// Reads a licence some times.
async fn reads(reader: &Customer) {
    for _ in 0..3 {
        reader.license("desk", 1).await;
    }
}

/// The service is never full while 700 sign in at once, or activate a licence that there is not: everybody's reading goes
/// on. Who is too much is told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on() {
    let octroi = Installation::start().await;
    octroi.customer("acme").await;
    let other = octroi.customer("other").await;
    other.buys("desk", &[(BUSINESS, 1)]).await;
    let missing = octroi
        .customer("acme2")
        .await
        .activation("none", 1, "sales");

    let (by, logins) = (callers(&octroi), AtomicUsize::new(0));
    let crowd = Crowd::of(CROWD, move |at| {
        let login = logins.fetch_add(1, Ordering::SeqCst);
        let tried = tries(by[at % CONNECTIONS].clone(), login);
        async move { Some(tried.await) }
    });
    told(
        crowd.beside(reads(&other)).await,
        (Code::Unauthenticated, "SIGN_IN_FAILED"),
    );

    let by = callers(&octroi);
    let crowd = Crowd::of(CROWD, move |at| {
        let (by, request) = (by[at % CONNECTIONS].clone(), missing.clone());
        async move { Some(by.licenses().activate_license(request).await.refused()) }
    });
    told(
        crowd.beside(reads(&other)).await,
        (Code::NotFound, "NOT_FOUND"),
    );
    octroi.finish().await;
}

/// What is answered beside those who wait for their turn: who queues up behind them sees nearly all of them answered
/// first, each time; who does not may be slow once, never always.
async fn beside<T>(answered: &AtomicUsize, ask: impl AsyncFn() -> T) -> T {
    for _ in 0..20 {
        let before = answered.load(Ordering::SeqCst);
        let told = ask().await;
        if answered.load(Ordering::SeqCst) - before < QUEUE / 2 {
            return told;
        }
    }
    panic!("it waits for the passwords before");
}

/// Each was refused so, or told to come again; some were refused so.
fn told(refused: Vec<Refused>, (code, reason): (Code, &str)) {
    assert_eq!(refused.len(), CROWD);
    let (right, busy): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .partition(|it| it.reason == reason && it.code == code);
    assert!(!right.is_empty());
    busy.iter().for_each(told_to_come_again);
}

/// Either too many of its caller's calls wait for the database, or too many hash.
#[track_caller]
fn told_to_come_again(refused: &Refused) {
    match refused.code {
        Code::ResourceExhausted => refused.is(Code::ResourceExhausted, "TOO_MANY_CALLS"),
        _ => refused.is(Code::Unavailable, "OVERLOADED"),
    };
    assert!(refused.retry.is_some(), "{refused:?}");
}

/// One account that crowds, with passwords that are hashed or with requests that come to none, keeps no other account's
/// users from signing in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_leaves_room_for_others() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let other = octroi.customer("other").await;
    let mut user = String::new();
    for customer in [&acme, &other] {
        customer.buys("desk", &[(BUSINESS, 1)]).await;
        user = customer
            .activates("desk", 1, "sales")
            .await
            .activation_email;
    }
    let missing = acme.activation("none", 1, "night");
    let bound: Vec<_> = (0..CONNECTIONS).map(|_| octroi.bound_to("acme")).collect();
    for changes in [false, true] {
        let (by, missing) = (bound.clone(), missing.clone());
        let license = acme.license_name("desk", 1);
        let crowd = Crowd::of(CROWDING, move |at| {
            let by = by[at % CONNECTIONS].clone();
            let (missing, license) = (missing.clone(), license.clone());
            async move {
                let answer = if changes {
                    let change = ChangePasswordRequest {
                        name: license,
                        password: "Green-Lantern-7".to_owned(),
                        request_id: request_id(),
                        ..ChangePasswordRequest::default()
                    };
                    by.licenses().change_password(change).await
                } else {
                    by.licenses().activate_license(missing).await
                };
                Some(Refused::of(&answer.err()?))
            }
        });
        let signs_in = async {
            for _ in 0..3 {
                other.signs_in(&user, CHOSEN).await.got();
            }
        };
        for refused in crowd.beside(signs_in).await {
            if refused.code != Code::NotFound {
                told_to_come_again(&refused);
            }
        }
    }
    octroi.finish().await;
}

/// What needs no hash does not wait behind those that do: a repeated request id, and what the licence refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_no_hash_does_not_wait() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    let activation = ActivateLicenseRequest {
        request_id: request_id(),
        ..acme.activation("office", 1, "sales")
    };
    let change = ChangePasswordRequest {
        name: acme.license_name("office", 1),
        password: "Green-Lantern-7".to_owned(),
        request_id: request_id(),
        ..ChangePasswordRequest::default()
    };
    let activate = async |request: ActivateLicenseRequest| -> Result<Response<License>, Status> {
        acme.by.licenses().activate_license(request).await
    };
    let change_password =
        async |request: ChangePasswordRequest| acme.by.licenses().change_password(request).await;
    let activated = activate(activation.clone()).await.got();
    let changed = change_password(change.clone()).await.got();

    // Who was answered tries the next login, so that as many wait all the time.
    let (logins, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for _ in 0..QUEUE {
        let (by, over) = (octroi.operator(), Arc::clone(&over));
        let (logins, answered) = (Arc::clone(&logins), Arc::clone(&answered));
        crowd.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let login = logins.fetch_add(1, Ordering::SeqCst);
                let refused = tries(by.clone(), login).await;
                refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    eventually("each has come as far as its password", async || {
        let counted = "SELECT count(*) FROM licensing.sign_in_failure WHERE kind = 'LOGIN'";
        let counted: i64 = octroi.sql.query_one(counted, &[]).await.unwrap().get(0);
        (counted >= i64::try_from(QUEUE).unwrap()).then_some(())
    })
    .await;
    let again = beside(&answered, async || activate(activation.clone()).await).await;
    assert_eq!(again.got(), activated);
    let again = beside(&answered, async || change_password(change.clone()).await).await;
    assert_eq!(again.got(), changed);
    let another = |change: &ChangePasswordRequest| ChangePasswordRequest {
        request_id: request_id(),
        ..change.clone()
    };
    for (request, code, reason) in [
        (
            acme.activation("office", 1, "night"),
            Code::FailedPrecondition,
            "LICENSE_ASSIGNED",
        ),
        (
            acme.activation("office", 9, "night"),
            Code::NotFound,
            "NOT_FOUND",
        ),
        (
            acme.activation("office", 2, "SALES"),
            Code::AlreadyExists,
            "ACTIVATION_EMAIL_TAKEN",
        ),
        (
            ActivateLicenseRequest {
                etag: "77".to_owned(),
                ..acme.activation("office", 2, "night")
            },
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
        (
            ActivateLicenseRequest {
                activation_email: "night".to_owned(),
                ..activation
            },
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
        ),
    ] {
        let told = beside(&answered, async || activate(request.clone()).await).await;
        told.refused().is(code, reason);
    }
    for (request, code, reason) in [
        (
            ChangePasswordRequest {
                name: acme.license_name("office", 2),
                ..another(&change)
            },
            Code::FailedPrecondition,
            "LICENSE_UNASSIGNED",
        ),
        (
            ChangePasswordRequest {
                etag: "77".to_owned(),
                ..another(&change)
            },
            Code::Aborted,
            "ETAG_MISMATCH",
        ),
    ] {
        let told = beside(&answered, async || change_password(request.clone()).await).await;
        told.refused().is(code, reason);
    }
    over.store(true, Ordering::SeqCst);
    crowd.join_all().await;
    octroi.finish().await;
}

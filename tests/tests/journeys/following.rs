//! Readers of an account's facts who keep the token of their last answer and go on from there.

use std::collections::BTreeMap;

use octroi_api::event::v1::{Event, ListEventsRequest, ListEventsResponse};
use octroi_api::licensing::v1::{LicenseGroup, UpdateLicenseGroupRequest};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, ServiceName, eventually,
};
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

/// Somebody who reads licensing's facts of an account, a few at a time.
struct Reader {
    of: Customer,
    token: String,
    seen: Vec<Event>,
}

impl Reader {
    fn new(of: &Customer) -> Self {
        let of = of.clone();
        let (token, seen) = Default::default();
        Self { of, token, seen }
    }

    /// One page, after whatever was read before.
    async fn page(&mut self) -> ListEventsResponse {
        let request = ListEventsRequest {
            parent: self.of.name(),
            page_size: 3,
            page_token: self.token.clone(),
            ..ListEventsRequest::default()
        };
        let mut events = self.of.by.events(ServiceName::Licensing);
        let page = events.list_events(request).await.got();
        assert!(!page.resume_token.is_empty());
        self.token.clone_from(&page.resume_token);
        self.seen.extend(page.events.iter().cloned());
        page
    }

    /// Everything that there is by now.
    async fn reads_on(&mut self) {
        while !self.page().await.next_page_token.is_empty() {}
    }

    fn ids(&self) -> Vec<&str> {
        self.seen.iter().map(|event| event.id.as_str()).collect()
    }

    /// Each event once, and each aggregate in its sequence.
    fn judge(&self, events: usize) {
        assert_eq!(self.seen.len(), events, "each event once: {:?}", self.ids());
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for event in &self.seen {
            let last = last.entry(&event.aggregate).or_default();
            assert_eq!(event.sequence, *last + 1, "{}", event.aggregate);
            *last = event.sequence;
        }
    }
}

/// How many facts licensing has recorded.
async fn recorded(octroi: &Installation) -> usize {
    let count = "SELECT count(*) FROM licensing.event";
    let count: i64 = octroi.sql.query_one(count, &[]).await.unwrap().get(0);
    usize::try_from(count).unwrap()
}

/// An activation that waits with its event's id drawn is told after others that were made later and committed before.
#[tokio::test(flavor = "multi_thread")]
async fn miss_nothing_that_is_committed_late() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("a", &[(BUSINESS, 2)]).await;
    acme.buys("b", &[(BUSINESS, 3)]).await;
    let mut reader = Reader::new(&acme);
    reader.reads_on().await;

    let admin = &octroi.plan().databases.admin;
    let (holder, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let address = "late@a.acme.users.octroi.example";
    let hold = format!(
        "BEGIN;
         INSERT INTO licensing.activation_address (address, account, group_id, number)
         VALUES ('{address}', 'acme', 'a', 2)"
    );
    holder.batch_execute(&hold).await.unwrap();
    let late = tokio::spawn({
        let acme = acme.clone();
        async move { acme.activates("a", 2, "late").await }
    });
    eventually("the activation waits for the address", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = octroi.sql.query_one(waiting, &[]).await.unwrap().get(0);
        (waiting > 0).then_some(())
    })
    .await;
    let mut others = JoinSet::new();
    for number in 1..=3 {
        let acme = acme.clone();
        others.spawn(async move { acme.activates("b", number, &format!("user{number}")).await });
    }
    others.join_all().await;
    reader.reads_on().await;
    reader.judge(recorded(&octroi).await);
    let before = reader.token.clone();
    let nothing = reader.page().await;
    assert_eq!(
        (nothing.events, nothing.next_page_token),
        (vec![], String::new())
    );
    assert_eq!(reader.token, before, "it stays where it is");

    holder.batch_execute("ROLLBACK").await.unwrap();
    let activated = late.await.unwrap();
    reader.reads_on().await;
    let last = reader.seen.last().unwrap();
    assert_eq!(last.aggregate, activated.name, "{:?}", reader.seen);
    reader.judge(recorded(&octroi).await);
    let mut anew = Reader::new(&acme);
    anew.reads_on().await;
    assert_eq!(anew.seen, reader.seen, "an event's place never changes");
    octroi.finish().await;
}

/// Many who write and many who read: each reader sees each event once, in one order, and each aggregate in sequence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn see_the_same_whoever_writes_meanwhile() {
    const WRITERS: usize = 6;
    const CHANGES: usize = 20;
    const READERS: usize = 4;
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let instances = [acme.by.clone(), octroi.second_licensing().await];
    for writer in 0..WRITERS {
        acme.buys(&format!("g{writer}"), &[(BUSINESS, 1)]).await;
    }
    let before = recorded(&octroi).await;
    // Between an event's id and its commit lies now this much, now that.
    let dawdle = "
        CREATE FUNCTION licensing.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(random() * 0.03); RETURN NEW;
        END $$;
        CREATE TRIGGER dawdle BEFORE INSERT ON licensing.event
            FOR EACH ROW EXECUTE FUNCTION licensing.dawdle()";
    octroi.sql.batch_execute(dawdle).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let group = acme.group_name(&format!("g{writer}"));
        let by = instances[writer % 2].clone();
        writers.spawn(async move {
            for change in 0..CHANGES {
                let request = UpdateLicenseGroupRequest {
                    license_group: Some(LicenseGroup {
                        name: group.clone(),
                        display_name: format!("Change {change}"),
                        ..LicenseGroup::default()
                    }),
                    update_mask: Some(FieldMask {
                        paths: vec!["display_name".to_owned()],
                    }),
                    ..UpdateLicenseGroupRequest::default()
                };
                by.groups().update_license_group(request).await.got();
            }
        });
    }
    let (done, told) = tokio::sync::watch::channel(false);
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let of = Customer {
            id: acme.id.clone(),
            by: instances[reader % 2].clone(),
        };
        let told = told.clone();
        readers.spawn(async move {
            let mut reader = Reader::new(&of);
            loop {
                // Looked at first: what is written by then is read below.
                let last = *told.borrow();
                reader.reads_on().await;
                if last {
                    return reader;
                }
            }
        });
    }
    writers.join_all().await;
    done.send_replace(true);
    let readers = readers.join_all().await;
    let events = recorded(&octroi).await;
    assert_eq!(events, before + WRITERS * CHANGES);
    for reader in &readers {
        reader.judge(events);
        assert_eq!(reader.ids(), readers[0].ids(), "one order for everybody");
    }
    octroi.finish().await;
}

/// A database of an earlier release, whose events have no places: they get them by their ids, as they were listed
/// before, but for an aggregate whose ids contradict its sequence; however many there are, each is listed once.
#[tokio::test(flavor = "multi_thread")]
async fn find_what_an_earlier_release_recorded() {
    const MANY: usize = 4_500;
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates("office", 1, "sales").await;
    let by_id = "SELECT id::text FROM licensing.event ORDER BY id";
    let rows = octroi.sql.query(by_id, &[]).await.unwrap();
    let by_id: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut reader = Reader::new(&acme);
    reader.reads_on().await;
    assert_eq!(reader.ids(), by_id);
    octroi.drained().await;

    // Ids in any order, after those of today.
    let history = "INSERT INTO licensing.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body)
                   SELECT 'acme', ('f' || substr(gen_random_uuid()::text, 2))::uuid, 'x', 'accounts/acme/x', n,
                          now(), now(), ''
                   FROM generate_series(1, $1::bigint) AS n";
    let many = i64::try_from(MANY).unwrap();
    octroi.sql.execute(history, &[&many]).await.unwrap();
    let mut token = String::new();
    let mut sequences = Vec::new();
    loop {
        let request = ListEventsRequest {
            parent: acme.name(),
            page_size: 1000,
            page_token: token,
            ..ListEventsRequest::default()
        };
        let mut events = acme.by.events(ServiceName::Licensing);
        let page = events.list_events(request).await.got();
        sequences.extend(page.events.iter().map(|event| event.sequence));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let history: Vec<i64> = (1..=many).collect();
    assert_eq!(sequences[by_id.len()..], history);
    octroi.abandon().await;
}

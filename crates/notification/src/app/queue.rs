//! What a round does with the queue: it puts in line what is due again, takes from the line what can be sent soon, and
//! gives back what cannot.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use octroi_platform::Error;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::delivery::Round;
use crate::app::together_or_alone;
use crate::domain::email::{Delivery, EmailId};
use crate::domain::lanes::FAST;
use crate::store;
use crate::store::email::from_row;
use crate::store::queue::{Candidate, Due, Leased};

/// How many e-mails are put in line at once.
const PUT_IN_LINE: i64 = 200;

/// How many e-mails more than can be taken are looked at, at first and at most: some are for domains without a lane.
pub(super) const FIRST_MARGIN: i64 = 8;
const MOST_MARGIN: i64 = 512;

/// How long an e-mail stays out of the line that finds no lane, and one that was leased and found none.
const DEFERRED: Duration = Duration::from_secs(10);
const RELEASED: Duration = Duration::from_secs(1);

/// How long an e-mail is left alone that could not be taken, because somebody has locked it or its row refuses.
const AVOIDED: Duration = Duration::from_secs(30);

/// How many of those are remembered.
const MOST_AVOIDED: usize = 1_000;

/// How many leased e-mails are held ready.
const READY: usize = 2 * FAST + FAST / 2;

/// How long a leased e-mail may wait for a lane: its lease is not renewed before its attempt.
const READY_FOR: Duration = Duration::from_secs(10);

impl Round {
    /// Looks at the queue: puts in line what is due again, and takes from the line. Whether there was something to do.
    pub(super) async fn look(&mut self, all: bool) -> Result<bool, Error> {
        let mut found = all && self.put_in_line().await?;
        let room = READY.saturating_sub(self.ready.len());
        let room = match self.sender.rate {
            // What waits long for its turn would lose its lease.
            Some(rate) => room.min(usize::try_from(rate).unwrap_or(room)).max(1),
            None => room,
        };
        // Some of the room is for what goes to every account, however much else there is.
        let reserved = room / 4;
        let taken = self.take(false, room - reserved, &mut found).await?;
        self.take(true, room - taken, &mut found).await?;
        Ok(found)
    }

    /// Puts e-mails in line whose time has come.
    async fn put_in_line(&mut self) -> Result<bool, Error> {
        let db = &self.sender.transport.db;
        let avoided = i64::try_from(self.avoided.len()).unwrap_or_default();
        let due = store::queue::due_again(db, PUT_IN_LINE + avoided).await?;
        let due: Vec<Due> = due
            .into_iter()
            .filter(|it| !self.avoided.contains_key(&it.id))
            .collect();
        let call = self.sender.call();
        let put = |due: Vec<Due>| {
            let (call, random) = (&call, Uuid::new_v4().as_u64_pair().1);
            async move {
                let tx = store::queue::begin(db, call).await?;
                let moved = store::queue::enqueue(&tx, &due, random).await?;
                tx.commit_work().await?;
                Ok(moved)
            }
        };
        let (_, failed) = together_or_alone(&due, |it| it.id.to_string(), put).await?;
        self.avoid(failed.iter().map(|it| it.id));
        Ok(failed.len() < due.len())
    }

    /// Leases e-mails of one of the lines, at most so many, for which there will be a lane soon; how many.
    async fn take(&mut self, bulk: bool, most: usize, found: &mut bool) -> Result<usize, Error> {
        if most == 0 {
            return Ok(0);
        }
        let db = &self.sender.transport.db;
        let avoided = i64::try_from(self.avoided.len()).unwrap_or_default();
        let most_i64 = i64::try_from(most).unwrap_or(i64::MAX);
        let limit = most_i64 + self.margin + avoided;
        let (candidates, corrupt) = store::queue::first_in_line(db, bulk, limit).await?;
        let read = candidates.len() + corrupt.len();
        for (id, error) in corrupt {
            tracing::error!(email = %id, %error, "it is put off");
            store::queue::put_off(db, &id, &error.to_string()).await?;
            *found = true;
        }
        let (begun, deferred, ended) = self.choose(candidates, most);
        for id in &ended {
            self.withdraw(id).await?;
        }
        self.defer(&deferred).await?;
        let leased = self.claim(&begun).await?;
        *found |= !(ended.is_empty() && begun.is_empty());
        // E-mails further back may be for domains that have a lane. Those that have none are not gone through for their own
        // sake: there may be very many.
        let is_full = read >= usize::try_from(limit).unwrap_or(usize::MAX);
        self.margin = match is_full && begun.is_empty() {
            true => (self.margin * 2).min(MOST_MARGIN),
            false => FIRST_MARGIN,
        };
        *found |= is_full && begun.is_empty() && self.margin < MOST_MARGIN;
        let count = leased.len();
        self.done += (count + ended.len()) as u64;
        let now = Instant::now();
        for leased in leased {
            let domain = domain_of(&leased);
            self.ready.push_back((leased, now, domain));
        }
        Ok(count)
    }

    /// Of e-mails in line: those whose attempt begins, those for which there is no lane, and those to withdraw.
    fn choose(
        &self,
        candidates: Vec<Candidate>,
        most: usize,
    ) -> (Vec<Candidate>, Vec<EmailId>, Vec<EmailId>) {
        let (mut begun, mut deferred, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        let mut held: HashMap<String, usize> = HashMap::new();
        for (_, _, domain) in &self.ready {
            *held.entry(domain.clone()).or_default() += 1;
        }
        let (lanes, now) = (self.sender.domains.lanes(), self.sender.domains.now());
        let business = self.sender.transport.clock.now();
        for Candidate { email, left } in candidates {
            if begun.len() >= most {
                break;
            }
            if self.avoided.contains_key(&email.id.id) {
                continue;
            }
            let id = email.id.clone();
            match email.begin_attempt(business) {
                Ok(email) if email.delivery == Delivery::Withdrawn => ended.push(id),
                Ok(email) => {
                    let to = email.addressee.as_ref();
                    let domain = to.map(|to| domain(&to.email)).unwrap_or_default();
                    let ready = held.entry(domain.clone()).or_default();
                    if lanes.may_hold(&domain, *ready, now) {
                        *ready += 1;
                        begun.push(Candidate { email, left });
                    } else if lanes.is_slow(&domain, now) {
                        deferred.push(id);
                    }
                }
                // Leased by an earlier release, which takes from anywhere in the line.
                Err(_) => {}
            }
        }
        (begun, deferred, ended)
    }

    async fn claim(&mut self, begun: &[Candidate]) -> Result<Vec<Leased>, Error> {
        let (db, call) = (&self.sender.transport.db, self.sender.call());
        let claim = |begun: Vec<Candidate>| {
            let call = &call;
            async move {
                let tx = store::queue::begin(db, call).await?;
                let leased = store::queue::claim(&tx, begun, Uuid::now_v7()).await?;
                tx.commit_work().await?;
                Ok(leased)
            }
        };
        let name = |it: &Candidate| it.email.id.to_string();
        let (leased, failed) = together_or_alone(begun, name, claim).await?;
        self.avoid(failed.iter().map(|it| it.email.id.id));
        Ok(leased.into_iter().flatten().collect())
    }

    async fn defer(&mut self, emails: &[EmailId]) -> Result<(), Error> {
        let (db, call) = (&self.sender.transport.db, self.sender.call());
        let defer = |emails: Vec<EmailId>| {
            let call = &call;
            async move {
                let tx = store::queue::begin(db, call).await?;
                store::queue::defer(&tx, &emails, DEFERRED).await?;
                tx.commit_work().await
            }
        };
        let (_, failed) = together_or_alone(emails, EmailId::to_string, defer).await?;
        self.avoid(failed.iter().map(|it| it.id));
        Ok(())
    }

    /// Withdraws an e-mail whose password has ended, unless that changed.
    async fn withdraw(&mut self, id: &EmailId) -> Result<(), Error> {
        let (db, call) = (&self.sender.transport.db, self.sender.call());
        let withdraw = |_| {
            let call = &call;
            async move {
                let mut tx = store::queue::begin(db, call).await?;
                let lock = store::delivery::LOCK;
                let rows = tx.query(lock, &[&id.account, &id.id]).await?;
                let before = rows.first().map(from_row).transpose()?;
                let after = before.clone().map(|it| it.begin_attempt(call.now));
                if let (Some(before), Some(Ok(after))) = (before, after)
                    && after.delivery == Delivery::Withdrawn
                {
                    store::email::erase_secret(&mut tx, &after);
                    let (before, after) = (before.audited(), after.audited());
                    tx.audit(&id.to_string(), Some(before), Some(after));
                }
                tx.commit_work().await
            }
        };
        let ids = std::slice::from_ref(id);
        let (_, failed) = together_or_alone(ids, EmailId::to_string, withdraw).await?;
        self.avoid(failed.iter().map(|it| it.id));
        Ok(())
    }

    fn avoid(&mut self, ids: impl Iterator<Item = Uuid>) {
        let until = Instant::now() + AVOIDED;
        for id in ids {
            if self.avoided.len() < MOST_AVOIDED {
                self.avoided.insert(id, until);
            }
        }
    }

    /// Gives back what has waited for a lane for long, and what waits for a domain that became slow.
    pub(super) async fn release_late(&mut self) {
        let now = self.sender.domains.now();
        let (mut kept, mut late) = (VecDeque::new(), Vec::new());
        {
            let lanes = self.sender.domains.lanes();
            for (leased, since, domain) in std::mem::take(&mut self.ready) {
                let is_slow = lanes.is_slow(&domain, now) && !lanes.may_hold(&domain, 0, now);
                match is_slow || since.elapsed() >= READY_FOR {
                    true => late.push(leased),
                    false => kept.push_back((leased, since, domain)),
                }
            }
        }
        self.ready = kept;
        self.release(late).await;
    }

    pub(super) async fn release_all(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        self.release(ready.into_iter().map(|it| it.0).collect())
            .await;
    }

    async fn release(&self, leases: Vec<Leased>) {
        if leases.is_empty() {
            return;
        }
        let (db, call) = (&self.sender.transport.db, self.sender.call());
        let released = async {
            let tx = store::queue::begin(db, &call).await?;
            store::queue::release(&tx, &leases, RELEASED).await?;
            tx.commit_work().await
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "leases were not given back; they end by themselves");
        }
    }
}

fn domain_of(leased: &Leased) -> String {
    let to = leased.email.addressee.as_ref();
    to.map(|to| domain(&to.email)).unwrap_or_default()
}

/// The domain of an address.
fn domain(address: &str) -> String {
    let domain = address
        .rsplit_once('@')
        .map_or(address, |(_, domain)| domain);
    domain.to_ascii_lowercase()
}

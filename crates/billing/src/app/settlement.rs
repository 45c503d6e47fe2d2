//! Settlements. One transaction records the attempt, then the gateway is called outside of any transaction, then another
//! transaction records the outcome. After a crash at any point the next call or the worker resumes: the charge's key is
//! made of order and attempt, so that each attempt is charged once, and an unknown outcome is looked up. The caller of the
//! gateway holds a lease on the attempt and renews it until the outcome is written; one that has lost its lease writes
//! nothing.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::share::{Share, Turn, Whose};
use octroi_platform::{Aggregate as _, Call, Clock, Db, Error, Tx, row_get, while_leased};
use serde_json::{Value, json};
use uuid::Uuid;

use super::gateway::{Gateway, Outcome};
use super::invoice;
use crate::domain::account::Account;
use crate::domain::invoice::InvoiceId;
use crate::domain::ledger::Posting;
use crate::domain::money::Money;
use crate::domain::order::OrderId;
use crate::domain::payment_method::{NewMethod, PaymentMethod, PaymentMethodId, TestToken};
use crate::domain::price::PriceId;
use crate::domain::quote::Quote;
use crate::domain::settlement::{
    Attempt, Charge, METHOD_MISSING, METHOD_UNKNOWN, Means, OrderCharge, QUOTE_MISMATCH,
    SELLER_INCOMPLETE, Settlement, SettlementState, Verdict, blocking_attempt,
};
use crate::refusal::order_settled;
use crate::{event, store};

/// After this time without an answer the outcome is looked up later.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(15);

/// An attempt to settle an order.
#[derive(Debug)]
pub(crate) struct Settle {
    pub(crate) attempt: Attempt,
    /// The order's frozen quote, or its bad fields, which are reported for a new attempt only.
    pub(crate) quote: Result<Quote, Error>,
    pub(crate) with: PayWith,
}

/// How an attempt is to be paid.
#[derive(Debug, Clone)]
pub(crate) enum PayWith {
    /// The account's default method.
    Default,
    /// A method to put on file, as the default, once it has paid.
    New(NewMethod),
    /// A token that the gateway never gave out.
    Unknown,
}

/// An attempt as it was found or recorded, and what to ask the gateway.
struct Begun {
    settlement: Settlement,
    /// The lease and the token to charge, when this call began it.
    mine: Option<(Uuid, TestToken)>,
}

#[derive(Clone)]
pub(crate) struct Settlements {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) gateway: Gateway,
}

impl Settlements {
    /// Settles an attempt, or answers its state. An attempt is one charge: when it is repeated, quote and method of the
    /// first request count.
    pub(crate) async fn settle(&self, call: &Call, settle: Settle) -> Result<Settlement, Error> {
        // A known attempt is answered without locking the account, which a bill run or another attempt may hold for long.
        let known = self.read_attempt(&settle.attempt).await?;
        // Who waits for an account does so among that account's alone.
        let account = settle.attempt.order.account.as_str().into();
        let turn = Turn::new(Share::Background, Whose::Account(account));
        let settled = async {
            let begun = match known {
                Some(settlement) => Begun {
                    settlement,
                    mine: None,
                },
                None => self.begin_attempt(call, settle).await?,
            };
            self.decide(call, begun).await
        };
        turn.scope(settled).await
    }

    async fn read_attempt(&self, attempt: &Attempt) -> Result<Option<Settlement>, Error> {
        let OrderId { account, id } = &attempt.order;
        let row = self
            .db
            .query_opt(store::settlement::READ, &[account, id, &attempt.number])
            .await?;
        row.as_ref().map(store::settlement::from_row).transpose()
    }

    /// Looks up the outcome of an attempt under way, if the gateway has it by now.
    async fn decide(&self, call: &Call, begun: Begun) -> Result<Settlement, Error> {
        let Begun { settlement, mine } = begun;
        if settlement.state != SettlementState::Processing {
            return Ok(settlement);
        }
        let (lease, first) = match mine {
            Some((lease, token)) => (lease, Some(token)),
            None => {
                let lease = Uuid::now_v7();
                if !store::settlement::take(&self.db, &settlement.attempt, lease).await? {
                    // Somebody asks already, or has just ended it.
                    let now = self.read_attempt(&settlement.attempt).await?;
                    return Ok(now.unwrap_or(settlement));
                }
                (lease, None)
            }
        };
        self.ask_leased(call, settlement, lease, first).await
    }

    /// Background work: looks at the undecided attempt that is due first; how many that was. A few run side by
    /// side: while the gateway hangs each waits [`GATEWAY_TIMEOUT`] for its attempt, and the others wait for one of them.
    pub(crate) async fn settle_undecided(&self, now: Timestamp) -> anyhow::Result<u64> {
        let lease = Uuid::now_v7();
        let Some(settlement) = store::settlement::lease(&self.db, lease).await? else {
            return Ok(0);
        };
        let key = settlement.attempt.charge_key();
        let call = Call::background(now, "octroi.billing.v1.SettlementService/SettleOrder");
        if let Err(error) = self.ask_leased(&call, settlement, lease, None).await {
            tracing::warn!(
                attempt = key,
                error = format!("{:#}", anyhow::Error::new(error)),
                "an attempt is still undecided"
            );
        }
        Ok(1)
    }

    /// Asks the gateway about a leased attempt, for the first time with its token, and writes what it says. The lease is
    /// renewed meanwhile, and given back when nothing is decided.
    async fn ask_leased(
        &self,
        call: &Call,
        settlement: Settlement,
        lease: Uuid,
        first: Option<TestToken>,
    ) -> Result<Settlement, Error> {
        let attempt = settlement.attempt.clone();
        let asking = async {
            let asked = async {
                match first {
                    Some(token) => self.ask(&settlement, token).await,
                    None => self.look(&settlement).await,
                }
            };
            match tokio::time::timeout(GATEWAY_TIMEOUT, asked).await {
                Ok(Ok(Outcome::Definite(verdict))) => {
                    self.finish_attempt(call, &attempt, lease, verdict).await
                }
                Ok(Err(error)) => Err(error),
                Ok(Ok(Outcome::Processing | Outcome::Unknown)) | Err(_) => Ok(settlement),
            }
        };
        let renew = || store::settlement::renew(&self.db, &attempt, lease);
        let asked = while_leased(store::settlement::RENEW_EVERY, renew, asking).await;
        let decided = |it: &Settlement| it.state != SettlementState::Processing;
        if !asked.as_ref().is_ok_and(decided) {
            store::settlement::back_off(&self.db, &attempt, lease).await?;
        }
        asked
    }

    /// Records an attempt, unless somebody else just did: what it charges and with which method, before anyone is asked.
    async fn begin_attempt(&self, call: &Call, settle: Settle) -> Result<Begun, Error> {
        let Settle {
            attempt,
            quote,
            with,
        } = settle;
        let account = &attempt.order.account;
        let (mut tx, rows) = self
            .db
            .begin_work(call, store::quote::LOCK_ACCOUNT, &[account])
            .await?;
        let row = rows.first().ok_or_else(|| call.not_found(account))?;
        let customer = store::account::from_row(row)?;
        let seller = store::seller::from_row(row)?;
        let lines = quote.as_ref().map_or(&[][..], |quote| &quote.lines);
        let named: Vec<PriceId> = lines.iter().map(|line| line.price).collect();
        // The account's lock keeps others from beginning an attempt, so what is read now stays valid.
        let (attempts, prices, default) = tokio::try_join!(
            store::settlement::of_order(&tx, &attempt.order),
            store::price::named(&tx, &named),
            store::payment_method::default(&tx, account),
        )?;
        if let Some(settlement) = found(&attempt, attempts)? {
            tx.rollback().await;
            return Ok(Begun {
                settlement,
                mine: None,
            });
        }
        let quote = quote?;
        let (quote, fits) = match quote.check(customer.currency, &prices) {
            Ok(()) => (quote, true),
            Err(mismatch) => {
                let key = attempt.charge_key();
                tracing::warn!(attempt = key, what = mismatch.0, "a quote does not fit");
                (quote.declined(customer.currency), false)
            }
        };
        if customer.first_order_at.is_none() {
            // Licensing's OrderCreated has not arrived yet.
            store::account::mark_ordered(&mut tx, account, call.now);
        }
        // Each is a recorded decline, so that a delayed duplicate request cannot charge what licensing counts as declined.
        let means = match with {
            _ if !fits => Err(QUOTE_MISMATCH),
            // Money that is taken must be invoiced, so what would stop the invoice stops the charge. It may pass.
            _ if quote.due > 0 && seller.check_complete().is_err() => Err(SELLER_INCOMPLETE),
            PayWith::Default => default
                .map(|method| (method.token, Means::OnFile(method.id)))
                .ok_or(METHOD_MISSING),
            PayWith::New(new) => Ok((new.token, Means::New(new))),
            PayWith::Unknown => Err(METHOD_UNKNOWN),
        };
        let begun = record(&mut tx, call, attempt, &quote, &customer, means);
        tx.commit_work().await?;
        Ok(begun)
    }

    /// Asks the gateway for the first time.
    async fn ask(&self, settlement: &Settlement, token: TestToken) -> Result<Outcome, Error> {
        let key = settlement.attempt.charge_key();
        let Charge { due, currency, .. } = settlement.charge;
        match due {
            0 => self.gateway.verify(&key, currency, token).await,
            due => {
                let amount = Money::new(due, currency);
                self.gateway.charge(&key, amount, token).await
            }
        }
    }

    /// Looks an outcome up. When the gateway never heard of the charge, the process died before it asked: it asks now.
    async fn look(&self, settlement: &Settlement) -> Result<Outcome, Error> {
        let attempt = &settlement.attempt;
        if let Some(outcome) = self.gateway.lookup(&attempt.charge_key()).await? {
            return Ok(outcome);
        }
        let token = match &settlement.means {
            Some(Means::New(new)) => new.token,
            Some(Means::OnFile(id)) => self.token_on_file(attempt, id).await?,
            None => return Err(no_method(attempt)),
        };
        self.ask(settlement, token).await
    }

    async fn token_on_file(
        &self,
        attempt: &Attempt,
        id: &PaymentMethodId,
    ) -> Result<TestToken, Error> {
        let row = self
            .db
            .query_opt(store::payment_method::READ, &[&id.account, &id.id])
            .await?;
        let row = row.ok_or_else(|| no_method(attempt))?;
        Ok(store::payment_method::from_row(&row)?.token)
    }

    /// Ends a leased attempt: the payment, its new method, the order's invoice, the ledger and the facts, in one
    /// transaction. Who has lost the lease leaves it to who has it now.
    async fn finish_attempt(
        &self,
        call: &Call,
        attempt: &Attempt,
        lease: Uuid,
        verdict: Verdict,
    ) -> Result<Settlement, Error> {
        let OrderId { account, id } = &attempt.order;
        let (mut tx, rows) = self
            .db
            .begin_work(
                call,
                store::settlement::LOCK,
                &[account, id, &attempt.number, &lease],
            )
            .await?;
        let row = rows.first().ok_or(Error::Conflict("the attempt is gone"))?;
        let settlement = store::settlement::from_row(row)?;
        if settlement.state != SettlementState::Processing || !row_get::<bool>(row, "held")? {
            tx.rollback().await;
            return Ok(settlement);
        }
        let due = settlement.charge.due;
        let invoice = match verdict {
            Verdict::Succeeded if due > 0 => {
                Some(self.invoice_order(&mut tx, &settlement, call.now).await?)
            }
            Verdict::Succeeded | Verdict::Declined(_) => None,
        };
        let kept = match (&verdict, &settlement.means) {
            (Verdict::Succeeded, Some(Means::New(new))) => {
                Some(put_on_file(&mut tx, call, attempt, new.clone()).id)
            }
            _ => None,
        };
        let before = settlement.audited();
        let settlement = settlement
            .settle(verdict, invoice.clone(), kept, call.now)
            .map_err(|_| Error::Conflict("the attempt was settled"))?;
        store::settlement::settle(&mut tx, &settlement);
        if let Some(payment) = settlement.payment() {
            store::payment::settle(&mut tx, &payment);
            if invoice.is_some() {
                let posting = Posting {
                    account: payment.id.account.clone(),
                    seller: settlement.charge.seller.clone(),
                    currency: payment.amount.currency,
                    source: payment.id.to_string(),
                    at: call.now,
                };
                let transfer = posting.payment(Uuid::now_v7(), payment.amount.minor);
                store::ledger::post(&mut tx, transfer.as_slice());
            }
            if let Some(event) = event::payment_settled(&payment) {
                tx.emit(event);
            }
        }
        tx.audit(
            &attempt.order.to_string(),
            Some(before),
            Some(settlement.audited()),
        );
        tx.commit_work().await?;
        Ok(settlement)
    }

    /// Issues the order's invoice; its id.
    async fn invoice_order(
        &self,
        tx: &mut Tx,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<InvoiceId, Error> {
        let lines = store::settlement::lines(tx, &settlement.attempt).await?;
        let order = OrderCharge {
            order: settlement.attempt.order.clone(),
            charge: settlement.charge.clone(),
            lines: lines
                .into_iter()
                .filter(|line| line.setup_amount > 0)
                .collect(),
        };
        match invoice::issue_order(tx, &order, self.clock.is_test(), now).await {
            Ok(invoice) => Ok(invoice.id),
            // The money is taken, and a refusal would mean that it was not: this is an internal error, and the attempt
            // stays undecided until its cause is fixed.
            Err(Error::Refused(refusal)) => Err(Error::Internal(refusal.into())),
            Err(error) => Err(error),
        }
    }
}

/// The attempt among the order's, if it was begun before.
///
/// # Errors
/// ORDER_SETTLED when another stands in its way.
fn found(attempt: &Attempt, attempts: Vec<Settlement>) -> Result<Option<Settlement>, Error> {
    let standing: Vec<(i32, bool)> = attempts
        .iter()
        .map(|other| {
            let declined = matches!(other.state, SettlementState::Declined { .. });
            (other.attempt.number, !declined)
        })
        .collect();
    if let Some(same) = attempts.into_iter().find(|other| other.attempt == *attempt) {
        return Ok(Some(same));
    }
    match blocking_attempt(attempt.number, &standing) {
        None => Ok(None),
        Some(other) => Err(order_settled(&attempt.order, other).into()),
    }
}

fn no_method(attempt: &Attempt) -> Error {
    Error::Corrupt {
        table: "settlement",
        column: "payment_method",
        id: attempt.charge_key(),
    }
}

/// Puts the attempt's new method on file, as the default.
fn put_on_file(tx: &mut Tx, call: &Call, attempt: &Attempt, new: NewMethod) -> PaymentMethod {
    let account = &attempt.order.account;
    store::payment_method::clear_default(tx, account);
    let id = PaymentMethodId {
        account: account.clone(),
        id: Uuid::now_v7(),
    };
    let method = PaymentMethod::put_on_file(id, new, true, call.now);
    store::payment_method::insert(tx, &method, Some(attempt));
    tx.audit(&method.id.to_string(), None, Some(method.audited()));
    method
}

/// Queues the attempt: under way, or declined already and why.
fn record(
    tx: &mut Tx,
    call: &Call,
    attempt: Attempt,
    quote: &Quote,
    customer: &Account,
    means: Result<(TestToken, Means), &'static str>,
) -> Begun {
    let charge = Charge::of(quote, &customer.seller);
    let lease = Uuid::now_v7();
    let (settlement, mine) = match means {
        Ok((token, means)) => (
            Settlement::begin(attempt, charge, means, Uuid::now_v7(), call.now),
            Some((lease, token)),
        ),
        Err(reason) => (Settlement::refused(attempt, charge, reason, call.now), None),
    };
    store::settlement::insert(tx, &settlement, quote, lease);
    if let Some(payment) = settlement.payment() {
        store::payment::insert(tx, &payment);
    }
    tx.audit(
        &settlement.attempt.order.to_string(),
        None,
        Some(settlement.audited()),
    );
    Begun { settlement, mine }
}

impl Settlement {
    /// What the audit keeps of it.
    fn audited(&self) -> Value {
        let (state, reason) = match &self.state {
            SettlementState::Processing => ("PROCESSING", None),
            SettlementState::Succeeded { .. } => ("SUCCEEDED", None),
            SettlementState::Declined { reason, .. } => ("DECLINED", Some(reason)),
        };
        json!({
            "attempt": self.attempt.number,
            "due": Money::new(self.charge.due, self.charge.currency).to_string(),
            "state": state,
            "decline_reason": reason,
        })
    }
}

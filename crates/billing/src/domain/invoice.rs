//! Invoices: a bill that is numbered, dated and frozen.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use octroi_platform::name::{AccountId, Kind, Owned};
use uuid::Uuid;

use super::bill::{Bill, Line};
use super::mention::{Terms, mentions};
use super::money::Currency;

/// The name of an invoice: "accounts/acme/invoices/{uuid}".
pub type InvoiceId = Owned<InvoiceKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvoiceKind {}

impl Kind for InvoiceKind {
    type Id = Uuid;
    const KIND: &'static str = "invoice";
    const COLLECTION: &'static str = "invoices";
}

/// A bill about to be invoiced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub id: InvoiceId,
    /// What it charges. It has at least one line: where there is nothing to charge there is no invoice.
    pub bill: Bill,
    /// The seller's terms.
    pub terms: Terms,
    /// The seller's local date when it was drafted.
    pub date: Date,
    /// The seller's time zone.
    pub zone: TimeZone,
    /// Whether it is paid already.
    pub paid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be paid by its due date.
    Open,
    /// Paid, or nothing was due.
    Paid {
        /// Since when.
        at: Timestamp,
    },
}

impl State {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "OPEN",
            State::Paid { .. } => "PAID",
        }
    }

    /// The instant of payment, if it was paid.
    pub fn paid_at(self) -> Option<Timestamp> {
        match self {
            State::Open => None,
            State::Paid { at } => Some(at),
        }
    }
}

/// An invoice, frozen when issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub id: InvoiceId,
    /// "F-2026-000001".
    pub number: String,
    pub state: State,
    /// The seller's local date of issue.
    pub issue_date: Date,
    /// Date by which it is to be paid; the date of issue when it was paid from the first.
    pub due_date: Date,
    /// Legal mentions, one a line.
    pub mentions: Vec<String>,
    pub created_at: Timestamp,
    pub bill: Bill,
}

/// An invoice as it is shown: with the first of its lines, or with none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The invoice; its bill holds the lines shown.
    pub invoice: Invoice,
    /// How many lines it has.
    pub line_count: i32,
}

/// A line of an invoice as it is shown by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownLine {
    pub account: AccountId,
    /// Its number on the invoice, from 1.
    pub number: i32,
    pub line: Line,
    /// The currency of its amounts.
    pub currency: Currency,
}

impl Draft {
    /// Whether the seller's day has ended since it was drafted.
    pub fn is_of_yesterday(&self, now: Timestamp) -> bool {
        now.to_zoned(self.zone.clone()).date() > self.date
    }

    /// Freezes it under a number and the date that came with it. One that totals zero is paid at once.
    pub fn issue(self, number: String, date: Date, now: Timestamp) -> Invoice {
        let paid = self.paid || self.bill.total == 0;
        let due = if paid {
            date
        } else {
            date.saturating_add(self.terms.days.days())
        };
        Invoice {
            id: self.id,
            number,
            state: if paid {
                State::Paid { at: now }
            } else {
                State::Open
            },
            issue_date: date,
            due_date: due,
            mentions: mentions(&self.bill, &self.terms, date, (!paid).then_some(due)),
            created_at: now,
            bill: self.bill,
        }
    }
}

/// Where a page of lines begins: after which line, and of which state of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub preview: Option<PreviewState>,
    pub after: i32,
}

/// What a preview showed at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewState {
    /// The instant of the first page: what took effect later is not shown.
    pub at: Timestamp,
    /// A hash of all lines: events of an earlier effect may arrive later.
    pub hash: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(PreviewState { at, hash }) = self.preview {
            write!(f, "{}-{hash:x}-", at.as_microsecond())?;
        }
        write!(f, "{}", self.after)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        let place = || {
            let Some((state, after)) = text.rsplit_once('-') else {
                return Some(Place {
                    preview: None,
                    after: text.parse().ok()?,
                });
            };
            let (at, hash) = state.rsplit_once('-')?;
            let preview = PreviewState {
                at: Timestamp::from_microsecond(at.parse().ok()?).ok()?,
                hash: u64::from_str_radix(hash, 16).ok()?,
            };
            Some(Place {
                preview: Some(preview),
                after: after.parse().ok()?,
            })
        };
        place().ok_or("is no place among lines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bill::tests::{account, euro, line, order};
    use crate::domain::seller::Seller;
    use jiff::civil::date;

    fn draft(unit_price: i64, paid: bool) -> Draft {
        let seller = Seller::specimen(euro());
        Draft {
            id: InvoiceId {
                account: account().id,
                id: Uuid::nil(),
            },
            bill: Bill::new(
                &account(),
                &seller,
                order(),
                vec![line(1, unit_price, 1, 200_000)],
                false,
            )
            .unwrap(),
            terms: Terms::of(&seller).unwrap(),
            date: date(2026, 1, 31),
            zone: TimeZone::get("Europe/Paris").unwrap(),
            paid,
        }
    }

    #[test]
    fn a_draft_is_good_for_the_seller_s_day() {
        let draft = draft(100, false);
        for (now, ended) in [
            ("2026-01-31T22:59:59.999999Z", false),
            ("2026-01-31T23:00:00Z", true),
            ("2026-01-30T00:00:00Z", false),
        ] {
            assert_eq!(draft.is_of_yesterday(now.parse().unwrap()), ended, "{now}");
        }
    }

    #[test]
    fn an_invoice_is_due_after_the_seller_s_terms() {
        let now = Timestamp::UNIX_EPOCH;
        let issue = |draft: Draft| draft.issue("F-2026-000001".into(), date(2026, 1, 31), now);
        let open = issue(draft(100, false));
        assert_eq!((open.state, open.due_date), (State::Open, date(2026, 3, 2)));
        let free = issue(draft(0, false));
        assert_eq!(
            (free.state, free.due_date),
            (State::Paid { at: now }, date(2026, 1, 31))
        );
        let paid = issue(draft(100, true));
        assert_eq!(paid.state.paid_at(), Some(now));
    }

    #[test]
    fn an_open_invoice_says_by_when_it_is_to_be_paid() {
        for (unit_price, paid, said) in [
            (100, false, "au plus tard"),
            (100, true, "Acquittée"),
            (0, false, "Acquittée"),
        ] {
            let at = Timestamp::UNIX_EPOCH;
            let invoice =
                draft(unit_price, paid).issue("F-2026-000001".into(), date(2026, 1, 31), at);
            assert!(
                invoice.mentions.iter().any(|line| line.contains(said)),
                "{said}"
            );
            assert_eq!(
                invoice.id.to_string(),
                format!("accounts/acme/invoices/{}", Uuid::nil())
            );
            assert_eq!(invoice.state.paid_at(), (said == "Acquittée").then_some(at));
        }
    }
}

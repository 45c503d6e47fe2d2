//! Quotes on the wire.

use octroi_api::billing::v1 as wire;
use octroi_platform::refusal::MISSING;
use octroi_platform::time::{from_proto, to_proto};
use octroi_platform::{Name as _, Violations};

use super::money;
use crate::domain::money::{Currency, Money, Rate};
use crate::domain::price::{OfferId, PriceId, UsagePolicy};
use crate::domain::quote::{Asked, MOST_LICENSES, MOST_LINES, Quote, QuoteLine};
use crate::domain::tax::TaxCategory;

impl From<UsagePolicy> for wire::UsagePolicy {
    fn from(policy: UsagePolicy) -> Self {
        match policy {
            UsagePolicy::Peak => Self::Peak,
            UsagePolicy::Distinct => Self::Distinct,
            UsagePolicy::Daily => Self::Daily,
        }
    }
}

/// The lines to quote.
pub(crate) fn asked(
    lines: Vec<wire::QuotedLine>,
    violations: &mut Violations,
) -> Option<Vec<Asked>> {
    check_count(lines.len(), "lines", violations);
    let asked = |(at, line): (usize, wire::QuotedLine)| {
        let offer = line_offer(
            &format!("lines[{at}]"),
            &line.offer,
            line.quantity,
            violations,
        );
        Some(Asked {
            offer: offer?,
            quantity: line.quantity,
        })
    };
    // Each is read before the first bad one ends it.
    let lines: Vec<_> = lines.into_iter().enumerate().map(asked).collect();
    lines.into_iter().collect()
}

/// The frozen quote of an order that is settled.
pub(crate) fn read(quote: Option<wire::Quote>, violations: &mut Violations) -> Option<Quote> {
    let Some(quote) = quote else {
        violations.add("quote", MISSING);
        return None;
    };
    check_count(quote.lines.len(), "quote.lines", violations);
    let due = money::read("quote.due_now", quote.due_now.as_ref(), violations);
    let mut amounts = Amounts {
        currency: due.map(|due| due.currency),
        violations,
    };
    let net = amounts.read("quote.net", quote.net.as_ref());
    let tax = amounts.read("quote.tax", quote.tax.as_ref());
    let lines: Vec<_> = quote
        .lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| amounts.line(&format!("quote.lines[{at}]"), line))
        .collect();
    let rate = Rate::from_ppm(quote.tax_rate_ppm).ok_or("must be 0 to 1000000");
    let rate = violations.check("quote.tax_rate_ppm", rate);
    let category = match (quote.tax_category.as_str(), rate) {
        // A release that did not send the category made the quote: one alone has a rate above zero.
        ("", Some(rate)) if rate.ppm() > 0 => Some(TaxCategory::Standard),
        (text, _) => TaxCategory::parse(text),
    };
    let category = category.ok_or("must be a category of EN 16931 such as \"S\"");
    let category = violations.check("quote.tax_category", category);
    let at = quote
        .quote_time
        .as_ref()
        .and_then(from_proto)
        .ok_or(MISSING);
    let at = violations.check("quote.quote_time", at);
    Some(Quote {
        currency: due?.currency,
        lines: lines.into_iter().collect::<Option<_>>()?,
        net: net?,
        tax: tax?,
        due: due?.minor,
        category: category?,
        rate: rate?,
        at: at?,
    })
}

/// Reads amounts that must all be in one currency and not below zero.
struct Amounts<'a> {
    currency: Option<Currency>,
    violations: &'a mut Violations,
}

impl Amounts<'_> {
    fn read(&mut self, field: &str, amount: Option<&octroi_api::r#type::v1::Money>) -> Option<i64> {
        let amount = money::read(field, amount, self.violations)?;
        if self
            .currency
            .is_some_and(|currency| currency != amount.currency)
        {
            self.violations
                .add(field, "must be in the currency of due_now");
        }
        if amount.minor < 0 {
            self.violations.add(field, "must not be negative");
        }
        Some(amount.minor)
    }

    fn line(&mut self, field: &str, line: wire::QuoteLine) -> Option<QuoteLine> {
        let offer = line_offer(field, &line.offer, line.quantity, self.violations);
        let setup_fee = self.read(&format!("{field}.setup_fee"), line.setup_fee.as_ref());
        let setup_amount = self.read(&format!("{field}.setup_amount"), line.setup_amount.as_ref());
        let monthly = self.read(
            &format!("{field}.monthly_price"),
            line.monthly_price.as_ref(),
        );
        let price = PriceId::parse(&line.price).ok_or_else(PriceId::rule);
        let price = self.violations.check(&format!("{field}.price"), price);
        let policy = match line.usage_policy() {
            wire::UsagePolicy::Unspecified => Err(MISSING),
            wire::UsagePolicy::Peak => Ok(UsagePolicy::Peak),
            wire::UsagePolicy::Distinct => Ok(UsagePolicy::Distinct),
            wire::UsagePolicy::Daily => Ok(UsagePolicy::Daily),
        };
        let policy = self
            .violations
            .check(&format!("{field}.usage_policy"), policy);
        Some(QuoteLine {
            offer: offer?,
            quantity: line.quantity,
            setup_fee: setup_fee?,
            setup_amount: setup_amount?,
            monthly: monthly?,
            price: price?,
            policy: policy?,
        })
    }
}

impl From<&Quote> for wire::Quote {
    fn from(quote: &Quote) -> Self {
        let amount = |minor| Some(Money::new(minor, quote.currency).into());
        let line = |line: &QuoteLine| wire::QuoteLine {
            offer: line.offer.to_string(),
            quantity: line.quantity,
            setup_fee: amount(line.setup_fee),
            setup_amount: amount(line.setup_amount),
            monthly_price: amount(line.monthly),
            price: line.price.to_string(),
            usage_policy: wire::UsagePolicy::from(line.policy).into(),
        };
        Self {
            lines: quote.lines.iter().map(line).collect(),
            net: amount(quote.net),
            tax: amount(quote.tax),
            due_now: amount(quote.due),
            tax_rate_ppm: quote.rate.ppm(),
            quote_time: Some(to_proto(quote.at)),
            tax_category: quote.category.as_str().to_owned(),
        }
    }
}

fn check_count(lines: usize, field: &str, violations: &mut Violations) {
    if !(1..=MOST_LINES).contains(&lines) {
        violations.add(field, format!("must be 1 to {MOST_LINES}"));
    }
}

/// The offer of a line, whose quantity is checked too.
fn line_offer(
    field: &str,
    offer: &str,
    quantity: i32,
    violations: &mut Violations,
) -> Option<OfferId> {
    let rule = "must be an offer, such as \"offers/apps-for-business\"";
    let offer = OfferId::parse(offer).ok_or(rule);
    let offer = violations.check(&format!("{field}.offer"), offer);
    if !(1..=MOST_LICENSES).contains(&quantity) {
        violations.add(
            format!("{field}.quantity"),
            format!("must be 1 to {MOST_LICENSES}"),
        );
    }
    offer
}

use super::*;
use crate::domain::bill::tests::{account, euro};
use crate::domain::money::Rate;
use crate::domain::order::OrderId;
use crate::domain::quote::{Asked, Priced, Quote};
use crate::domain::seller::SellerId;
use crate::domain::settlement::Charge;
use crate::domain::tax::TaxCategory;
use crate::domain::usage::DayUse;
use crate::refusal::{price_missing, tax_rate_missing};
use jiff::{civil::date, tz::TimeZone};
use octroi_platform::name::Name as _;
use proptest::prelude::*;
use uuid::Uuid;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn price(id: u128, monthly: i64, policy: UsagePolicy, valid_from: &str) -> Price {
    Price {
        id: PriceId(Uuid::from_u128(id)),
        offer: OfferId::of(&["a"]).unwrap(),
        currency: euro(),
        monthly,
        setup: 0,
        policy,
        valid_from: at(valid_from),
    }
}

fn rate(ppm: i32, valid_from: Date) -> TaxRate {
    TaxRate {
        id: Uuid::nil(),
        country: "FR".into(),
        category: TaxCategory::Standard,
        rate: Rate::from_ppm(ppm).unwrap(),
        valid_from,
    }
}

fn november() -> MonthSpan {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    MonthSpan::new(&Zones::fixed(paris), "2026-11".parse().unwrap(), false)
}

fn usage(peaks: &[i32]) -> Usage {
    let day = |(day, peak): (i8, &i32)| DayUse {
        date: date(2026, 11, day),
        peak: *peak,
        end_of_day: *peak,
        seats: *peak,
    };
    Usage {
        group: "office".into(),
        offer: OfferId::of(&["a"]).unwrap(),
        distinct: peaks.iter().copied().max().unwrap_or(0),
        days: (1..).zip(peaks).map(day).collect(),
    }
}

fn sold(at_text: &str, price: u128) -> HashMap<String, Sold> {
    let entered = Entered {
        offer: OfferId::of(&["a"]).unwrap(),
        offer_name: "Apps".into(),
        at: at(at_text),
        price: PriceId(Uuid::from_u128(price)),
    };
    let sold = Sold {
        name: Some("Office".into()),
        entries: vec![entered],
    };
    HashMap::from([("office".to_owned(), sold)])
}

/// Unit price, quantity, base quantity and amount of the lines charged.
fn charge(
    prices: &[Price],
    sold: &HashMap<String, Sold>,
    rates: &[TaxRate],
    billed: &[Billed],
) -> Result<Vec<(i64, i32, i32, i64)>, Refusal> {
    let account = account();
    let knowledge = Knowledge {
        account: &account,
        sold,
        prices: &prices.iter().cloned().collect(),
        rates,
    };
    let charged = knowledge.charge(november(), &[usage(&[3, 5, 2])], billed)?;
    let figures = |line: Line| {
        (
            line.item.unit_price,
            line.item.quantity,
            line.item.base_quantity,
            line.amount,
        )
    };
    Ok(charged.lines.into_iter().map(figures).collect())
}

#[test]
fn a_month_uses_the_price_of_its_first_instant() {
    let prices = [
        price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z"),
        price(2, 1_000, UsagePolicy::Peak, "2026-10-31T23:00:00Z"),
        price(3, 1_100, UsagePolicy::Peak, "2026-10-31T23:00:01Z"),
    ];
    let rates = [rate(200_000, date(2014, 1, 1))];
    assert_eq!(
        charge(&prices, &HashMap::new(), &rates, &[]),
        Ok(vec![(1_000, 5, 1, 5_000)])
    );
    // An entry in an earlier month changes nothing; in this month its quoted price holds.
    let before = sold("2026-10-31T22:59:59Z", 3);
    assert_eq!(
        charge(&prices, &before, &rates, &[]),
        Ok(vec![(1_000, 5, 1, 5_000)])
    );
    let within = sold("2026-10-31T23:00:00Z", 3);
    assert_eq!(
        charge(&prices, &within, &rates, &[]),
        Ok(vec![(1_100, 5, 1, 5_500)])
    );
}

#[test]
fn nothing_is_assumed() {
    let late = [price(1, 900, UsagePolicy::Peak, "2026-11-02T00:00:00Z")];
    let rates = [rate(200_000, date(2026, 11, 30))];
    assert_eq!(
        charge(&late, &HashMap::new(), &rates, &[]),
        Err(price_missing(&OfferId::of(&["a"]).unwrap(), "EUR"))
    );
    let prices = [price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z")];
    assert!(charge(&prices, &HashMap::new(), &rates, &[]).is_ok());
    let too_late = [rate(200_000, date(2026, 12, 1))];
    assert_eq!(
        charge(&prices, &HashMap::new(), &too_late, &[]),
        Err(tax_rate_missing("FR"))
    );
}

#[test]
fn daily_charges_seat_days_of_the_month_s_days() {
    let prices = [price(1, 1_000, UsagePolicy::Daily, "2026-01-01T00:00:00Z")];
    let rates = [rate(200_000, date(2014, 1, 1))];
    assert_eq!(
        charge(&prices, &HashMap::new(), &rates, &[]),
        Ok(vec![(1_000, 10, 30, 333)])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Both ways over the date line, clocks that are changed, days that a zone left out, several changes in a
    /// month and on its bounds.
    #[test]
    fn a_seat_of_every_day_costs_the_month_s_price(
        year in 1990_i16..2060, number in 1_i8..=12, monthly in 1_i64..1_000_000,
        changes in prop::collection::vec((-800_i64..800, prop::sample::select(vec![
            "Europe/Paris", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Honolulu", "Pacific/Apia",
            "Asia/Kathmandu", "America/Sao_Paulo", "Australia/Lord_Howe",
        ])), 1..6),
    ) {
        let month = Month { year, month: number };
        let first = octroi_calendar::day_start(month.first_day(), &TimeZone::UTC);
        let zone = |(hours, name): (i64, &str)| (first + jiff::SignedDuration::from_hours(hours), name.to_owned());
        let history: Vec<_> = changes.into_iter().map(zone).collect();
        let zones = Zones::from_names(&history).unwrap();
        let day = |day: octroi_calendar::Day| DayUse { date: day.date, peak: 1, end_of_day: 1, seats: 1 };
        let mut usage = usage(&[1]);
        usage.days = zones.days(month).into_iter().map(day).collect();
        let account = account();
        let knowledge = Knowledge {
            account: &account,
            sold: &HashMap::new(),
            prices: &Prices::from_iter([price(1, monthly, UsagePolicy::Daily, "1980-01-01T00:00:00Z")]),
            rates: &[rate(200_000, date(1980, 1, 1))],
        };
        let charged = knowledge.charge(MonthSpan::new(&zones, month, false), &[usage], &[]).unwrap();
        prop_assert_eq!(charged.lines[0].amount, monthly);
    }
}

#[test]
fn late_usage_is_charged_by_its_difference_at_the_price_of_then() {
    let prices = [
        price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z"),
        price(2, 1_000, UsagePolicy::Peak, "2026-02-01T00:00:00Z"),
    ];
    let rates = [rate(200_000, date(2014, 1, 1))];
    let billed = |quantity| Billed {
        group: "office".into(),
        offer: OfferId::of(&["a"]).unwrap(),
        price: PriceId(Uuid::from_u128(1)),
        quantity,
    };
    assert_eq!(
        charge(&prices, &HashMap::new(), &rates, &[billed(3)]),
        Ok(vec![(900, 2, 1, 1_800)])
    );
    assert_eq!(
        charge(&prices, &HashMap::new(), &rates, &[billed(5)]),
        Ok(vec![])
    );
    let account = account();
    let knowledge = Knowledge {
        account: &account,
        sold: &HashMap::new(),
        prices: &prices.iter().cloned().collect(),
        rates: &rates,
    };
    let over = knowledge
        .charge(november(), &[usage(&[3])], &[billed(5)])
        .unwrap();
    assert!(over.overcharged && over.lines.is_empty());
    let gone = knowledge.charge(november(), &[], &[billed(5)]).unwrap();
    assert!(gone.overcharged && gone.lines.is_empty());
}

#[test]
fn the_next_month_s_entry_is_not_this_month_s() {
    let prices = [
        price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z"),
        price(2, 1_100, UsagePolicy::Peak, "2026-12-01T00:00:00Z"),
    ];
    let rates = [rate(200_000, date(2014, 1, 1))];
    // 23:00 UTC is the next day's midnight in Paris in November.
    for (entered, unit_price) in [
        ("2026-11-30T22:59:59.999999Z", 1_100),
        ("2026-11-30T23:00:00Z", 900),
    ] {
        let charged = charge(&prices, &sold(entered, 2), &rates, &[]).unwrap();
        assert_eq!(charged[0].0, unit_price, "{entered}");
    }
}

#[test]
fn a_month_is_overcharged_by_any_line_that_is() {
    let mut other = usage(&[3]);
    other.group = "factory".into();
    let billed = |group: &str, quantity| Billed {
        group: group.into(),
        offer: OfferId::of(&["a"]).unwrap(),
        price: PriceId(Uuid::from_u128(1)),
        quantity,
    };
    let account = account();
    let knowledge = Knowledge {
        account: &account,
        sold: &HashMap::new(),
        prices: &Prices::from_iter([price(1, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z")]),
        rates: &[rate(200_000, date(2014, 1, 1))],
    };
    for (office, factory, over) in [
        (3, 3, false),
        (2, 3, false),
        (3, 4, true),
        (4, 3, true),
        (4, 4, true),
    ] {
        let billed = [billed("office", office), billed("factory", factory)];
        let charged = knowledge.charge(november(), &[usage(&[3]), other.clone()], &billed);
        assert_eq!(charged.unwrap().overcharged, over, "{office} {factory}");
    }
}

#[test]
fn a_line_says_what_was_counted() {
    use UsagePolicy::{Daily, Distinct, Peak};
    for (policy, locale, late, description) in [
        (
            Peak,
            Locale::Fr,
            false,
            "Apps – Office – novembre 2026 – licences actives au plus fort du mois",
        ),
        (
            Peak,
            Locale::En,
            true,
            "Apps – Office – November 2026 – licences active at the month's peak (adjustment)",
        ),
        (
            Distinct,
            Locale::Fr,
            true,
            "Apps – Office – novembre 2026 – licences actives dans le mois (complément)",
        ),
        (
            Distinct,
            Locale::En,
            false,
            "Apps – Office – November 2026 – licences active in the month",
        ),
        (
            Daily,
            Locale::Fr,
            false,
            "Apps – Office – novembre 2026 – jours d'activité de licences",
        ),
        (
            Daily,
            Locale::En,
            false,
            "Apps – Office – November 2026 – licence-days of activity",
        ),
    ] {
        let account = Account {
            locale,
            ..account()
        };
        let knowledge = Knowledge {
            account: &account,
            sold: &sold("2026-01-01T00:00:00Z", 1),
            prices: &Prices::from_iter([price(1, 900, policy, "2026-01-01T00:00:00Z")]),
            rates: &[rate(200_000, date(2014, 1, 1))],
        };
        let month = MonthSpan { late, ..november() };
        let charged = knowledge.charge(month, &[usage(&[3])], &[]).unwrap();
        assert_eq!(charged.lines[0].item.description, description);
    }
}

#[test]
fn an_order_s_lines_are_its_set_up_fees() {
    let tax = (TaxCategory::Standard, Rate::from_ppm(200_000).unwrap());
    let asked = |quantity, price: Price| Priced {
        asked: Asked {
            offer: price.offer.clone(),
            quantity,
        },
        price,
    };
    let with_fee = |id, setup| Price {
        setup,
        ..price(id, 900, UsagePolicy::Peak, "2026-01-01T00:00:00Z")
    };
    let lines = [asked(3, with_fee(1, 250)), asked(1, with_fee(2, 100))];
    let quote = Quote::make(euro(), &lines, tax, Timestamp::UNIX_EPOCH).unwrap();
    let order = OrderCharge {
        order: OrderId::parse("accounts/acme/orders/o1").unwrap(),
        charge: Charge::of(&quote, &SellerId("specimen".into())),
        lines: quote.lines,
    };
    for (locale, first) in [
        (Locale::Fr, "Frais de mise en service – a"),
        (Locale::En, "Set-up fee – a"),
    ] {
        let lines = setup_lines(&order, locale).unwrap();
        assert_eq!(lines[0].item.description, first);
        let figures = |line: &Line| (line.item.quantity, line.item.unit_price, line.amount);
        assert_eq!(
            lines.iter().map(figures).collect::<Vec<_>>(),
            [(3, 250, 750), (1, 100, 100)]
        );
        assert!(
            lines
                .iter()
                .all(|line| (line.item.tax.category, line.item.tax.rate) == tax)
        );
    }
}

//! The life of an order, by every path.

use octroi_platform::name::Name as _;
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn order() -> Order {
    let line = |offer: &str, quantity| Line {
        offer: OfferId::new(offer),
        quantity,
        price: String::new(),
    };
    let draft = OrderDraft {
        id: OrderId::of(&["acme", "o1"]).unwrap(),
        group: GroupId::of(&["acme", "office"]).unwrap(),
        new_group: None,
        lines: vec![line("a", 10), line("b", 100_000)],
    };
    let quote = Quote {
        prices: vec!["prices/1".to_owned(), "prices/2".to_owned()],
        ..Quote::default()
    };
    Order::quoted(draft, quote, at(1_800_000_000))
}

#[test]
fn a_quoted_order_awaits_payment_for_24_hours() {
    let order = order();
    assert_eq!(order.expires_at, at(1_800_000_000 + 86_400));
    assert_eq!(order.lines[1].price, "prices/2");
    assert_eq!(order.quantity(), 100_010);
    assert_eq!(order.id.to_string(), "accounts/acme/orders/o1");
    let just = at(1_800_000_000 + 86_399);
    assert!(order.clone().pay(just).is_ok());
    assert_eq!(order.clone().expire(just), order);
    let over = order.expires_at;
    let expired = Err(refusal::order_expired(&order.id));
    assert_eq!(order.clone().pay(over), expired);
    assert_eq!(order.clone().cancel(over), expired);
    assert_eq!(order.expire(over).state, State::Expired);
}

#[test]
fn what_is_being_paid_neither_expires_nor_cancels() {
    let paying = order().pay(at(1_800_000_000)).unwrap();
    let late = at(1_900_000_000);
    assert_eq!(paying.clone().expire(late), paying);
    let refused = refusal::order_state(&paying.id, &State::Paying);
    assert_eq!(paying.clone().cancel(late), Err(refused));
    let done = paying.complete(Receipt::default(), late).unwrap();
    assert!(matches!(done.state, State::Completed { at, .. } if at == late));
}

#[test]
fn a_decline_keeps_its_reason_until_the_next_attempt() {
    let now = at(1_800_000_000);
    let declined = order()
        .pay(now)
        .unwrap()
        .decline("card_expired".to_owned())
        .unwrap();
    assert_eq!(declined.state, State::AwaitingPayment);
    assert_eq!(declined.decline_reason, "card_expired");
    let again = declined.pay(now).unwrap();
    assert_eq!((again.attempts, again.decline_reason.as_str()), (2, ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_path_is_one_of_the_contract(steps in prop::collection::vec((0_u8..5, 0_i64..30_000), 1..20)) {
        let mut order = order();
        let mut now = 1_800_000_000;
        for (step, seconds) in steps {
            now += seconds;
            let before = order.clone();
            let over = at(now) >= before.expires_at;
            let next = match step {
                0 => order.pay(at(now)).ok(),
                1 => order.complete(Receipt::default(), at(now)).ok(),
                2 => order.decline("x".to_owned()).ok(),
                3 => order.cancel(at(now)).ok(),
                _ => Some(order.expire(at(now))).filter(|after| *after != before),
            };
            let allowed = match (&before.state, step) {
                (State::AwaitingPayment, 0 | 3) => !over,
                (State::AwaitingPayment, 4) => over,
                (State::Paying, 1 | 2) => true,
                _ => false,
            };
            prop_assert_eq!(next.is_some(), allowed, "{:?} {}", before.state, step);
            if let Some(after) = &next {
                prop_assert_eq!(after.version, before.version + 1);
                prop_assert_eq!(after.attempts, before.attempts + i32::from(step == 0));
            }
            order = next.unwrap_or(before);
        }
    }
}

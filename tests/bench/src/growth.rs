//! What a call costs among many licences, beside the same among few.

use std::time::Duration;

use crate::calls::{get_license, median};
use crate::fill::{licensed, others};
use crate::load::Seen;
use crate::report::{Bar, Report};
use crate::run::Run;

pub fn measure(run: &Run, report: &mut Report) {
    let few = run.size.pick(200, 10_000);
    let accounts = run.size.pick(10, 5_000);
    let each = run.size.pick(10, 1_000);
    let time = Duration::from_millis(run.size.pick(300, 4_000));
    let rounds = run.size.pick(1, 5);
    let customer = licensed(run, "bench", few);
    let measured = || -> Vec<Seen> {
        (0..rounds)
            .map(|_| get_license(run, &customer, few, time))
            .collect()
    };
    let before = measured();
    others(run, "bench", accounts, each);
    let after = measured();
    let idle = run.idle();
    let cost = |seen: &[Seen]| median(seen.iter().map(|it| it.cost(idle)).collect());
    let latency = |seen: &[Seen]| median(seen.iter().map(|it| it.latency(0.5)).collect());
    let many = few + accounts * each;
    report.ratio(
        &format!("GetLicense among {many} licences, processor time"),
        "µs",
        cost(&after),
        (&format!("among {few}"), cost(&before)),
        Bar::AtMost(1.2),
    );
    report.ratio(
        &format!("GetLicense among {many} licences, 32 in flight, p50"),
        "µs",
        latency(&after),
        (&format!("among {few}"), latency(&before)),
        Bar::AtMost(1.2),
    );
}

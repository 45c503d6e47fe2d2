//! Who has a connection next. Background work, reads and commands each have a quarter of the pool to themselves, and the
//! last quarter is for whoever comes first. Callers take turns, and none takes more of what is free than it leaves: of
//! its share's places, and of the room to wait for one.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::part::{Kind, Part};
use crate::error::Error;

pub use super::part::Whose;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Whose work is done; what has none is background work.
    static TURN: Turn;
}

/// A share of the pool.
#[derive(Debug, Clone, Copy)]
pub enum Share {
    /// What no caller waits for, and what Octroi's own services ask of each other.
    Background,
    Read,
    Command,
}

/// Names of the shares, in their order.
pub(crate) const SHARES: [&str; 3] = ["background", "reads", "commands"];

/// Waits for connections, in seconds, by share.
pub type Waits = Family<[(&'static str, &'static str); 1], Histogram>;

/// Work that asks for connections as a caller, in a share.
pub struct Turn {
    share: Share,
    caller: Whose,
    /// For its first connection.
    place: Cell<Option<Place>>,
}

impl Turn {
    /// Of a caller's work.
    pub fn new(share: Share, caller: Whose) -> Self {
        Self {
            share,
            caller,
            place: Cell::new(None),
        }
    }

    pub(crate) fn with(self, place: Place) -> Self {
        self.place.set(Some(place));
        self
    }

    /// Does the work.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        TURN.scope(self, work).await
    }
}

/// The right to a connection, or to wait for one, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    share: Share,
    caller: Whose,
    /// Who waits is told by this.
    turn: Option<oneshot::Receiver<Kind>>,
    kind: Kind,
}

/// As many as the pool has connections.
pub(crate) struct Places {
    state: Mutex<State>,
    waits: [Histogram; 3],
}

struct State {
    /// How many are free for anybody.
    free: usize,
    parts: [Part; 3],
    /// The share that has the next of these.
    next: usize,
}

impl Places {
    pub(crate) fn new(size: usize, waits: &Waits) -> Arc<Self> {
        let own = size / 4;
        let state = State {
            free: size - 3 * own,
            parts: SHARES.map(|_| Part::new(own)),
            next: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            waits: SHARES.map(|share| waits.get_or_create(&[("share", share)]).clone()),
        })
    }

    /// How many wait in each share.
    pub(crate) fn waiting(&self) -> [usize; 3] {
        let state = self.state();
        [0, 1, 2].map(|share| state.parts[share].waiting)
    }

    /// A place for the work that is being done.
    pub(crate) async fn own(self: &Arc<Self>) -> Result<Place, Error> {
        let turn = |turn: &Turn| (turn.share, turn.caller.clone(), turn.place.take());
        match TURN.try_with(turn) {
            Ok((_, _, Some(place))) => Ok(place),
            Ok((share, caller, None)) => self.enter(share, &caller, true).await,
            Err(_) => self.enter(Share::Background, &Whose::Work(""), false).await,
        }
    }

    /// A place, in turn. A call that has not begun is refused when its caller has too many who wait.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        share: Share,
        caller: &Whose,
        begun: bool,
    ) -> Result<Place, Error> {
        let refusable = !begun && !matches!(share, Share::Background);
        let mut place = self.ask(share, caller, (begun, refusable))?;
        let waits = &self.waits[share as usize];
        let Some(turn) = &mut place.turn else {
            waits.observe(0.0);
            return Ok(place);
        };
        let since = Instant::now();
        let came = timeout(PATIENCE, turn).await;
        waits.observe(since.elapsed().as_secs_f64());
        if let Ok(Ok(kind)) = came {
            (place.kind, place.turn) = (kind, None);
            return Ok(place);
        }
        Err(match refusable {
            false => Error::Unavailable("no database connection came free; try again".to_owned()),
            true if self.is_crowded_by(share, caller) => Error::TooManyCalls,
            true => Error::Overloaded("the call's turn did not come; nothing was done; try again"),
        })
    }

    /// Whether more of a caller's wait than one.
    fn is_crowded_by(&self, share: Share, caller: &Whose) -> bool {
        let part = &self.state().parts[share as usize];
        part.line(caller)
            .is_some_and(|at| part.lines[at].1.len() > 1)
    }

    fn ask(
        self: &Arc<Self>,
        share: Share,
        caller: &Whose,
        (begun, refusable): (bool, bool),
    ) -> Result<Place, Error> {
        let mut state = self.state();
        let State { free, parts, .. } = &mut *state;
        let part = &mut parts[share as usize];
        let kind = part.take(free, caller);
        if kind.is_none() && refusable && part.is_full_for(caller) {
            return Err(Error::TooManyCalls);
        }
        Ok(Place {
            places: Arc::clone(self),
            share,
            caller: caller.clone(),
            turn: kind.is_none().then(|| part.wait(caller, begun)),
            kind: kind.unwrap_or(Kind::TheShares),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let State { free, parts, next } = &mut *state;
        let part = &mut parts[self.share as usize];
        if let Some(turn) = &mut self.turn {
            turn.close();
            match turn.try_recv() {
                Ok(kind) => self.kind = kind,
                Err(_) => return part.forget_gone(&self.caller),
            }
        }
        match self.kind {
            Kind::Anybodys => *free += 1,
            Kind::TheShares => part.give_back(&self.caller),
        }
        *next += 1;
        for share in *next..*next + parts.len() {
            parts[share % parts.len()].serve(free);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::db::part::{Pace, WAITING};

    const SIZE: usize = 16;

    type Entering = Pin<Box<dyn Future<Output = Result<Place, Error>>>>;

    fn places(size: usize) -> Arc<Places> {
        Places::new(size, &Waits::new_with_constructor(|| Histogram::new([1.0])))
    }

    fn entering(places: &Arc<Places>, share: Share, caller: &str, begun: bool) -> Entering {
        let (places, caller) = (Arc::clone(places), Whose::Account(caller.into()));
        Box::pin(async move { places.enter(share, &caller, begun).await })
    }

    /// Its outcome, if there is one.
    fn now(entering: &mut Entering) -> Option<Result<Place, Error>> {
        let mut context = Context::from_waker(Waker::noop());
        match entering.as_mut().poll(&mut context) {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    }

    /// As many places as a caller finds free.
    fn all(places: &Arc<Places>, share: Share, caller: &str) -> Vec<Place> {
        let enter = || now(&mut entering(places, share, caller, true));
        std::iter::from_fn(|| enter().map(Result::unwrap)).collect()
    }

    fn waiting(places: &Arc<Places>) -> usize {
        places.waiting().iter().sum()
    }

    #[tokio::test]
    async fn nobody_takes_all() {
        for (size, first, second, others) in [(16, 6, 1, 2), (8, 3, 1, 1), (5, 3, 0, 1)] {
            let places = places(size);
            let crowd = all(&places, Share::Command, "acme");
            assert_eq!(crowd.len(), first, "of {size}");
            let more = all(&places, Share::Command, "zeta");
            assert_eq!(more.len(), second, "of {size}");
            let reads = all(&places, Share::Read, "acme");
            assert_eq!(reads.len(), others, "of {size}");
            let background = all(&places, Share::Background, "mail");
            assert_eq!(background.len(), others, "of {size}");
            assert_eq!(waiting(&places), 0);
        }
        // Too small to be shared.
        assert_eq!(all(&places(3), Share::Command, "acme").len(), 3);
    }

    #[tokio::test]
    async fn callers_take_turns() {
        let places = places(1);
        let mut held = all(&places, Share::Command, "acme");
        let crowd = (0..20).map(|_| "acme");
        let callers: Vec<_> = crowd.chain(["a", "b", "c"]).collect();
        let mut turns: Vec<_> = callers
            .iter()
            .map(|caller| (*caller, entering(&places, Share::Command, caller, false)))
            .collect();
        assert!(turns.iter_mut().all(|(_, turn)| now(turn).is_none()));
        // What has begun comes before its caller's others, in its order, and not before other callers.
        for begun in ["acme, begun", "acme, begun next"] {
            turns.push((begun, entering(&places, Share::Command, "acme", true)));
            assert!(now(&mut turns.last_mut().unwrap().1).is_none());
        }
        let mut served = Vec::new();
        while let Some(place) = held.pop() {
            drop(place);
            turns.retain_mut(|(caller, turn)| match now(turn) {
                Some(place) => {
                    held.push(place.unwrap());
                    served.push(*caller);
                    false
                }
                None => true,
            });
            assert!(held.len() <= 1);
        }
        let first = ["acme, begun", "a", "b", "c", "acme, begun next", "acme"];
        assert_eq!(served[..6], first, "{served:?}");
        assert_eq!(served.len(), 25);
        assert_eq!(waiting(&places), 0);
    }

    #[tokio::test]
    async fn who_waits_with_too_many_is_refused() {
        let places = places(1);
        let held = all(&places, Share::Command, "acme");
        let mut crowd = Vec::new();
        loop {
            let mut turn = entering(&places, Share::Command, "acme", false);
            match now(&mut turn) {
                None => crowd.push(turn),
                Some(refused) => {
                    assert!(matches!(refused, Err(Error::TooManyCalls)));
                    break;
                }
            }
        }
        assert_eq!(crowd.len(), WAITING / 2);
        // Neither another caller nor another share is full, nor is what has begun refused.
        for (share, caller, begun) in [
            (Share::Command, "zeta", false),
            (Share::Read, "acme", false),
            (Share::Command, "acme", true),
        ] {
            let mut turn = entering(&places, share, caller, begun);
            assert!(now(&mut turn).is_none());
            crowd.push(turn);
        }
        // Who leaves makes room, also when it is their turn.
        drop(held);
        assert_eq!(waiting(&places), crowd.len() - 1);
        drop(crowd);
        assert_eq!(waiting(&places), 0);
        assert_eq!(all(&places, Share::Command, "acme").len(), 1);
    }

    #[tokio::test]
    async fn more_wait_where_turns_are_quick() {
        let places = places(1);
        // The while lasts for as long as the test.
        let later = Instant::now() + Duration::from_secs(3_600);
        for _ in 0..WAITING {
            places.state().parts[Share::Read as usize].pace.count(later);
        }
        let _held = all(&places, Share::Read, "acme");
        let mut crowd = Vec::new();
        for _ in 0..2 * WAITING {
            let mut turn = entering(&places, Share::Read, "acme", false);
            if now(&mut turn).is_none() {
                crowd.push(turn);
            }
        }
        assert_eq!(crowd.len(), WAITING + 1);
        // Once turns are slow again, another caller finds room beside them, and this one none.
        places.state().parts[Share::Read as usize].pace = Pace::default();
        let mut others = ["zeta", "acme"].map(|it| entering(&places, Share::Read, it, false));
        let waits = others.each_mut().map(|it| now(it).is_none());
        assert_eq!(waits, [true, false]);
    }

    #[tokio::test]
    async fn a_call_has_its_first_place_already() {
        let places = places(SIZE);
        let place = places
            .enter(Share::Read, &Whose::Account("acme".into()), false)
            .await;
        let turn = Turn::new(Share::Read, Whose::Account("acme".into())).with(place.unwrap());
        let more = || all(&places, Share::Read, "acme").len();
        assert_eq!(more(), 5);
        let work = turn.scope(async {
            let first = places.own().await.unwrap();
            assert_eq!(more(), 5);
            let second = places.own().await.unwrap();
            assert_eq!(more(), 4);
            drop((first, second));
        });
        work.await;
        assert_eq!(more(), 6);
    }
}

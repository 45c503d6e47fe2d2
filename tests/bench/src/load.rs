//! Load and what it saw.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};

use crate::run::served;

/// What a load saw.
pub struct Seen {
    /// How long each call took, ascending.
    latencies: Vec<Duration>,
    /// How long all of them took together.
    lasted: Duration,
    /// What the serving threads had of the processors meanwhile.
    served: Duration,
}

impl Seen {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Microseconds of a processor that a call cost the server, which has this share of one when nobody calls.
    pub fn cost(&self, idle: f64) -> f64 {
        let served = self.served.as_secs_f64() - idle * self.lasted.as_secs_f64();
        served * 1e6 / self.latencies.len() as f64
    }

    /// The mean latency in microseconds.
    pub fn mean(&self) -> f64 {
        let all: Duration = self.latencies.iter().sum();
        all.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    /// The latency in microseconds that this part of the calls stayed within.
    pub fn latency(&self, part: f64) -> f64 {
        let last = self.latencies.len() - 1;
        let at = (part * last as f64).round() as usize;
        self.latencies[at.min(last)].as_secs_f64() * 1e6
    }

    fn new(mut latencies: Vec<Duration>, begun: Instant, before: Duration) -> Self {
        let (lasted, served) = (begun.elapsed(), served() - before);
        assert!(!latencies.is_empty(), "the load called nothing");
        latencies.sort();
        Self {
            latencies,
            lasted,
            served,
        }
    }
}

/// How long to go on, and how often to call at most.
#[derive(Clone, Copy)]
pub struct Until {
    pub time: Duration,
    pub calls: u64,
}

/// So many callers, each calling again as soon as it is answered. A call is told its number, from 0.
pub async fn closed<F, C>(callers: u64, until: Until, call: F) -> Seen
where
    F: Fn(u64) -> C + Send + Sync + 'static,
    C: Future<Output = ()> + Send,
{
    let (call, next) = (Arc::new(call), Arc::new(AtomicU64::new(0)));
    let (begun, before) = (Instant::now(), served());
    let mut callers: JoinSet<_> = (0..callers)
        .map(|_| {
            let (call, next) = (Arc::clone(&call), Arc::clone(&next));
            async move {
                let mut latencies = Vec::new();
                while begun.elapsed() < until.time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= until.calls {
                        break;
                    }
                    let sent = Instant::now();
                    call(number).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            }
        })
        .collect();
    let mut latencies = Vec::new();
    while let Some(seen) = callers.join_next().await {
        latencies.extend(seen.unwrap());
    }
    Seen::new(latencies, begun, before)
}

/// Calls at a steady rate a second, whether the ones before were answered or not. A latency counts from when the call
/// was to be made, so that what piles up is seen.
pub async fn open<F, C>(rate: f64, time: Duration, call: F) -> Seen
where
    F: Fn(u64) -> C + Send + Sync + 'static,
    C: Future<Output = ()> + Send,
{
    let call = Arc::new(call);
    let (begun, before) = (Instant::now(), served());
    let mut calls = JoinSet::new();
    let count = (rate * time.as_secs_f64()) as u64;
    for number in 0..count {
        let due = begun + Duration::from_secs_f64(number as f64 / rate);
        sleep_until(due.into()).await;
        let call = Arc::clone(&call);
        calls.spawn(async move {
            call(number).await;
            due.elapsed()
        });
    }
    let mut latencies = Vec::new();
    while let Some(seen) = calls.join_next().await {
        latencies.push(seen.unwrap());
    }
    Seen::new(latencies, begun, before)
}

/// Looks at something over and over while work goes on; what it saw, ascending.
pub async fn watching<T>(
    look: impl AsyncFn() -> f64,
    work: impl Future<Output = T>,
) -> (T, Vec<f64>) {
    let mut seen = Vec::new();
    let mut ticks = interval(Duration::from_millis(50));
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => seen.push(look().await),
        }
    };
    seen.sort_by(f64::total_cmp);
    (done, seen)
}

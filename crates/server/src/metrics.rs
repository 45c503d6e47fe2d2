//! A service's metrics for Prometheus. Every label is bounded: declared methods, the 17 codes of gRPC, and for gauges
//! read at a scrape a few fixed values.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{BoxFuture, join_all};
use octroi_platform::db::{Db, Shown};
use octroi_platform::error::Error;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use tokio::time::timeout;
use tonic::Code;

/// Buckets in seconds, from an answer out of memory to a call's deadline.
const BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];
/// How long a scrape waits for the gauges that it reads.
const READ: Duration = Duration::from_secs(2);

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Gauges = Family<Vec<(&'static str, Cow<'static, str>)>, Gauge>;

/// The values of gauges that are read at a scrape.
pub type Reading = BoxFuture<'static, Result<Vec<Shown>, Error>>;

struct Source {
    label: &'static str,
    /// Names of the gauges.
    names: String,
    gauges: Vec<Gauges>,
    read: Box<dyn Fn() -> Reading + Send + Sync>,
}

/// The metrics of one service.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    sources: Mutex<Vec<Source>>,
    /// Held by the scrape under way, so that no other sets the gauges before they are encoded, and scrapes use no more
    /// connections than one needs.
    scraping: tokio::sync::Mutex<()>,
    handled: Family<Labels<2>, Counter>,
    took: Family<Labels<1>, Histogram, fn() -> Histogram>,
    under_way: Family<Labels<1>, Gauge>,
}

impl Metrics {
    pub(crate) fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())];
        let metrics = Self {
            registry: Registry::with_prefix_and_labels("octroi", labels.into_iter()).into(),
            sources: Mutex::default(),
            scraping: tokio::sync::Mutex::default(),
            handled: Family::default(),
            took: Family::new_with_constructor(seconds),
            under_way: Family::default(),
        };
        metrics.register("calls", "Calls by how they ended", metrics.handled.clone());
        let help = "How long calls took, until their answers' last byte";
        metrics.register("call_duration_seconds", help, metrics.took.clone());
        metrics.register(
            "calls_in_flight",
            "Calls under way",
            metrics.under_way.clone(),
        );
        metrics
    }

    pub(crate) fn register(&self, name: &str, help: &str, metric: impl Metric) {
        own(&self.registry).register(name, help, metric);
    }

    /// Registers gauges, by name and description, that are read at every scrape. An empty label is none.
    pub(crate) fn at_scrape(
        &self,
        label: &'static str,
        gauges: &[(&str, &str)],
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) {
        let names: Vec<_> = gauges.iter().map(|(name, _)| *name).collect();
        let gauges = gauges.iter().map(|(name, help)| {
            let family = Gauges::default();
            self.register(name, help, family.clone());
            family
        });
        let (gauges, read) = (gauges.collect(), Box::new(read));
        own(&self.sources).push(Source {
            label,
            names: names.join(", "),
            gauges,
            read,
        });
    }

    /// Registers the pool's connections and the waits for one.
    pub(crate) fn watch_pool(&self, db: &Db) {
        let help = "How long a database connection was waited for, by share of the pool";
        self.register("db_wait_seconds", help, db.waits().clone());
        let open = "The pool's connections, by whether they are used";
        let most = "The most connections there may be";
        let waiting = "Those who wait for a connection";
        let pool = db.clone();
        self.at_scrape("state", &[("db_connections", open)], move || {
            let pool = pool.pool();
            let busy = pool.size.saturating_sub(pool.available);
            let shown = [("busy", busy), ("idle", pool.available)];
            let shown = shown.map(|(state, count)| (state.to_owned(), vec![gauged(count)]));
            Box::pin(async move { Ok(shown.to_vec()) })
        });
        let pool = db.clone();
        self.at_scrape("", &[("db_connections_max", most)], move || {
            let shown = vec![gauged(pool.pool().max_size)];
            Box::pin(async move { Ok(vec![(String::new(), shown)]) })
        });
        let pool = db.clone();
        self.at_scrape("share", &[("db_waiting", waiting)], move || {
            let waiting = pool.waiting();
            let shown = waiting.map(|(share, count)| (share.to_owned(), vec![gauged(count)]));
            Box::pin(async move { Ok(shown.to_vec()) })
        });
    }

    pub(crate) fn began(&self, method: &'static str) {
        let method = ("method", method.into());
        self.under_way.get_or_create(&[method]).inc();
    }

    pub(crate) fn ended(&self, method: &'static str, code: Code, took: Duration) {
        let method = [("method", method.into())];
        self.under_way.get_or_create(&method).dec();
        self.took.get_or_create(&method).observe(took.as_secs_f64());
        let [method] = method;
        let code = ("code", format!("{code:?}").into());
        self.handled.get_or_create(&[method, code]).inc();
    }

    /// All metrics in the text format. Gauges that cannot be read in time are left out.
    pub(crate) async fn scrape(&self) -> anyhow::Result<String> {
        let one = timeout(READ, self.scraping.lock()).await;
        let _one = one.context("other scrapes are under way")?;
        let reads: Vec<_> = own(&self.sources)
            .iter()
            .map(|source| timeout(READ, (source.read)()))
            .collect();
        let reads = join_all(reads).await;
        for (source, rows) in own(&self.sources).iter().zip(reads) {
            source.gauges.iter().for_each(Family::clear);
            let Ok(Ok(rows)) = rows else {
                let lacks = &source.names;
                tracing::warn!(lacks, ?rows, "a scrape lacks what it reads");
                continue;
            };
            for (value, shown) in rows {
                for (gauge, shown) in source.gauges.iter().zip(shown) {
                    let label = (source.label, value.clone().into());
                    let labels = Some(label).filter(|(label, _)| !label.is_empty());
                    let labels = labels.into_iter().collect();
                    gauge.get_or_create(&labels).set(shown);
                }
            }
        }
        let mut text = String::new();
        encode(&mut text, &own(&self.registry))?;
        Ok(text)
    }
}

fn gauged(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

fn own<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

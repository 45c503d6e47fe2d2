//! A Citus cluster for tests. Each test has a database of its own there, on every node.

use std::sync::{Arc, LazyLock};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::Config;

use super::postgres::connect;

/// One test at a time: each database takes background processes on every node, of which there are few.
static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

/// A cluster, by its administrator's ways to the nodes.
#[derive(Clone)]
pub struct Citus {
    /// The coordinator first.
    nodes: Vec<Config>,
    _turn: Arc<OwnedMutexGuard<()>>,
}

impl Citus {
    /// The one whose coordinator OCTROI_CITUS_URL names, with its workers; none where it is not set, which is said. What an
    /// earlier test left there, which failed, is removed.
    pub async fn there() -> Option<Self> {
        let Ok(url) = std::env::var("OCTROI_CITUS_URL") else {
            println!("OCTROI_CITUS_URL is not set: Citus was not tried");
            return None;
        };
        let turn = Arc::clone(&TURN).lock_owned().await;
        let coordinator: Config = url.parse().unwrap();
        let client = connect(&coordinator, coordinator.get_dbname().unwrap()).await;
        let workers =
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0 ORDER BY groupid";
        let workers = client.query(workers, &[]).await.unwrap();
        let mut nodes = vec![coordinator];
        for worker in workers {
            let mut config = Config::new();
            config
                .user(nodes[0].get_user().unwrap())
                .password(nodes[0].get_password().unwrap_or_default())
                .host(worker.get::<_, &str>(0))
                .port(u16::try_from(worker.get::<_, i32>(1)).unwrap());
            nodes.push(config);
        }
        let citus = Self {
            nodes,
            _turn: Arc::new(turn),
        };
        let left = "SELECT datname FROM pg_database WHERE datname LIKE 'octroi\\_test\\_%'";
        for row in client.query(left, &[]).await.unwrap() {
            citus.drop(row.get(0)).await;
        }
        Some(citus)
    }

    pub(crate) fn coordinator(&self) -> &Config {
        &self.nodes[0]
    }

    /// Makes an empty database on every node, and joins the nodes in it.
    pub(crate) async fn create(&self, database: &str) {
        for node in &self.nodes {
            let create =
                format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
            connect(node, "postgres")
                .await
                .batch_execute(&create)
                .await
                .unwrap();
            let extension = "CREATE EXTENSION citus";
            connect(node, database)
                .await
                .batch_execute(extension)
                .await
                .unwrap();
        }
        let client = connect(self.coordinator(), database).await;
        for (at, node) in self.nodes.iter().enumerate() {
            let add = match at {
                0 => "SELECT citus_set_coordinator_host($1, $2)",
                _ => "SELECT citus_add_node($1, $2)",
            };
            let host = match &node.get_hosts()[0] {
                tokio_postgres::config::Host::Tcp(host) => host.clone(),
                other => panic!("a node without a name: {other:?}"),
            };
            let port = i32::from(node.get_ports()[0]);
            client.execute(add, &[&host, &port]).await.unwrap();
        }
    }

    /// Removes a test's database from every node.
    pub(crate) async fn drop(&self, database: &str) {
        for node in &self.nodes {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            let client = connect(node, "postgres").await;
            client.batch_execute(&drop).await.unwrap();
        }
    }
}

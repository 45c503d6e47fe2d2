//! A service's metrics and health in plain HTTP.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The address of a service's metrics and health.
#[derive(Debug, Clone, Copy)]
pub struct Watched(pub SocketAddr);

impl Watched {
    /// The status and the text of an answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(self, path: &str) -> (u16, String) {
        self.asked("GET", path).await
    }

    /// The status and the text of an answer to any method.
    ///
    /// # Panics
    /// When there is none.
    pub async fn asked(self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: octroi\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (status.parse().unwrap(), text.to_owned())
    }

    /// The metrics.
    ///
    /// # Panics
    /// When it is not 200.
    pub async fn metrics(self) -> String {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The value of a series, by its name and labels without `service`.
    ///
    /// # Panics
    /// When the value is no number.
    pub async fn shows(self, series: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let mut samples = metrics.lines().filter(|line| !line.starts_with('#'));
        samples.find_map(|sample| {
            let (name, shown) = sample.rsplit_once(' ')?;
            let (name, labels) = name.split_once('{')?;
            let labels = labels.trim_end_matches('}').split(',');
            let own = labels.filter(|label| !label.starts_with("service="));
            let own = own.collect::<Vec<_>>().join(",");
            (format!("{name}{{{own}}}") == series).then(|| shown.parse().unwrap())
        })
    }
}

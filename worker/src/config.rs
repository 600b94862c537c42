//! What a worker is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::NodeTls;

use crate::register::Registrar;
use crate::{Result, WorkerError};

const MAX_ID_BYTES: usize = 128;

/// The configuration of one worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The worker's id: 1 to 128 of ASCII letters, digits, `.`, `_`, `:` and `-`. `None`: the one
    /// in `<data>/worker.id`, made on the first start. A folder keeps its id for good.
    pub id: Option<String>,
    /// The folder of chunk files, spill files and the id. Made where missing; one worker each.
    pub data_dir: PathBuf,
    /// Where Flight listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How others reach the worker: `host`, `host:port` or `http://host:port`. `None`: the address
    /// it listens on, which must then be a definite one.
    pub advertise: Option<String>,
    /// Where the worker makes itself known; `None` for nowhere.
    pub registrar: Option<Arc<dyn Registrar>>,
    /// Certificates of this worker and of those it believes; without them it speaks in clear.
    pub tls: Option<Arc<NodeTls>>,
    /// The cluster's keys.
    pub keys: Arc<ClusterKeys>,
    /// How many chunks are computed at a time, and threads to do so.
    pub cores: usize,
    /// Memory that queries may use, in bytes.
    pub memory_bytes: usize,
    /// Disk that queries may use to spill, in bytes.
    pub spill_bytes: u64,
    /// Rows of a batch inside a fragment.
    pub batch_rows: usize,
    /// How long a shutdown waits for running tasks.
    pub drain: Duration,
}

impl WorkerConfig {
    /// A worker on a free loopback port with all processors, 1 GiB of memory, 16 GiB of spill,
    /// batches of 8,192 rows and 10 s to drain; it registers nowhere.
    pub fn new(data_dir: impl Into<PathBuf>, keys: Arc<ClusterKeys>) -> WorkerConfig {
        WorkerConfig {
            id: None,
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            registrar: None,
            tls: None,
            keys,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: 1 << 30,
            spill_bytes: 16 << 30,
            batch_rows: 8_192,
            drain: Duration::from_secs(10),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.cores == 0 || self.memory_bytes == 0 || self.batch_rows == 0 {
            return Err(WorkerError::Config(
                "a worker needs at least one core, some memory and rows in a batch".into(),
            ));
        }
        if self.advertise.is_none() && self.listen.ip().is_unspecified() {
            return Err(WorkerError::Config(format!(
                "{} tells others nothing: say under which address the worker is reached",
                self.listen
            )));
        }
        self.id.as_deref().map_or(Ok(()), check_id)
    }

    /// The address others use, once the port is known.
    pub(crate) fn address(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let Some(given) = &self.advertise else {
            return format!("{scheme}://{bound}");
        };
        let host = given.strip_prefix("http://").or(given.strip_prefix("https://")).unwrap_or(given);
        let host = host.trim_end_matches('/');
        // The last colon of an address in brackets without a port is inside the brackets.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        match has_port {
            true => format!("{scheme}://{host}"),
            false => format!("{scheme}://{host}:{}", bound.port()),
        }
    }
}

pub(crate) fn check_id(id: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(fits) {
        return Err(WorkerError::Config(format!(
            "{id:?} is no id of a worker: use 1 to {MAX_ID_BYTES} of ASCII letters, digits, '.', '_', ':' and '-'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn config(listen: &str, advertise: Option<&str>) -> WorkerConfig {
        let mut config = WorkerConfig::new("data", Arc::new(ClusterKeys::generate()));
        config.listen = listen.parse().unwrap();
        config.advertise = advertise.map(str::to_owned);
        config
    }

    #[test]
    fn others_are_told_a_whole_address() {
        let bound = "10.0.0.7:4711".parse().unwrap();
        for (given, told) in [
            (None, "http://10.0.0.7:4711"),
            (Some("w1"), "http://w1:4711"),
            (Some("w1:80"), "http://w1:80"),
            (Some("http://w1:80/"), "http://w1:80"),
            (Some("http://w1"), "http://w1:4711"),
            (Some("[fe80::1]"), "http://[fe80::1]:4711"),
            (Some("[fe80::1]:80"), "http://[fe80::1]:80"),
        ] {
            assert_eq!(config("10.0.0.7:0", given).address(bound), told, "{given:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(config("0.0.0.0:0", None).check().is_err());
        assert!(config("0.0.0.0:0", Some("w1")).check().is_ok());
        for id in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            let bad = WorkerConfig { id: Some(id.to_owned()), ..config("127.0.0.1:0", None) };
            assert!(bad.check().is_err(), "{id:?}");
        }
        let bad = WorkerConfig { cores: 0, ..config("127.0.0.1:0", None) };
        assert!(bad.check().is_err());
    }
}

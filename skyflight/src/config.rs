//! Configuration: one TOML file, overridden by the environment, then by flags; read into raw
//! sections and checked before any port opens.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};
use skyflight_server::{EndpointMode, ShuffleMode};

/// The annotated defaults, which are also the documentation of every key.
pub(crate) const DEFAULTS: &str = include_str!("../skyflight.toml");

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) coordinator: CoordinatorSection,
    pub(crate) worker: WorkerSection,
    pub(crate) ingest: IngestSection,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorSection {
    pub(crate) listen: SocketAddr,
    pub(crate) default_database: String,
    pub(crate) ticket_ttl_s: u64,
    pub(crate) max_queries: usize,
    pub(crate) threads: usize,
    pub(crate) memory_mib: usize,
    pub(crate) spill_gib: u64,
    pub(crate) silence_timeout_s: u64,
    pub(crate) hold_mib: usize,
    pub(crate) shuffle: String,
    pub(crate) shuffle_rows: u64,
    pub(crate) shuffle_mib: u64,
    pub(crate) sort_merge_mib: u64,
    pub(crate) endpoints: String,
    pub(crate) direct_mib: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSection {
    pub(crate) count: usize,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: usize,
    pub(crate) spill_gib: u64,
    pub(crate) batch_rows: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestSection {
    pub(crate) replicas: usize,
    pub(crate) memory_mib: usize,
    pub(crate) threads: usize,
    pub(crate) user_rows: u64,
    pub(crate) user_gib: u64,
}

impl Config {
    /// Reads the defaults, then `file`, then the environment, and checks the result.
    pub(crate) fn load(file: Option<&Path>) -> Result<Config> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            ensure!(path.is_file(), "there is no configuration file {}", path.display());
            figment = figment.merge(Toml::file_exact(path));
        }
        // Only SECTION__KEY: other SKYFLIGHT_ variables are not configuration.
        let environment = Env::prefixed("SKYFLIGHT_").filter(|key| key.as_str().contains("__")).split("__");
        let config: Config = figment.merge(environment).extract().context("the configuration cannot be used")?;
        config.check()?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let loopback = |address: SocketAddr, key: &str| {
            ensure!(
                address.ip().is_loopback() || self.allows_open(),
                "{key} = \"{address}\" would serve without authentication beyond this machine; listen on 127.0.0.1, \
                 or set SKYFLIGHT_OPEN=yes if the network itself keeps strangers out"
            );
            Ok(())
        };
        loopback(self.coordinator.listen, "coordinator.listen")?;
        let positive = [
            (self.coordinator.ticket_ttl_s, "coordinator.ticket_ttl_s"),
            (self.coordinator.max_queries as u64, "coordinator.max_queries"),
            (self.coordinator.memory_mib as u64, "coordinator.memory_mib"),
            (self.coordinator.silence_timeout_s, "coordinator.silence_timeout_s"),
            (self.worker.count as u64, "worker.count"),
            (self.worker.memory_mib as u64, "worker.memory_mib"),
            (self.worker.batch_rows as u64, "worker.batch_rows"),
            (self.ingest.memory_mib as u64, "ingest.memory_mib"),
        ];
        for (value, key) in positive {
            ensure!(value > 0, "{key} must be at least 1");
        }
        self.shuffle_mode().context("coordinator.shuffle")?;
        self.endpoint_mode().context("coordinator.endpoints")?;
        ensure!(self.worker.batch_rows <= 1 << 20, "worker.batch_rows is at most 1048576");
        Ok(())
    }

    /// Whether queries are shuffled.
    pub(crate) fn shuffle_mode(&self) -> Result<ShuffleMode> {
        Ok(self.coordinator.shuffle.parse()?)
    }

    /// Whether workers serve rows to clients that do not say.
    pub(crate) fn endpoint_mode(&self) -> Result<EndpointMode> {
        Ok(self.coordinator.endpoints.parse()?)
    }

    /// Until users and TLS exist, serving beyond loopback has to be asked for.
    #[expect(clippy::disallowed_methods, reason = "configuration is read here")]
    fn allows_open(&self) -> bool {
        std::env::var("SKYFLIGHT_OPEN").is_ok_and(|v| v == "yes")
    }
}

/// Seconds as a duration.
pub(crate) fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

/// A number of threads, where 0 means one per processor.
pub(crate) fn threads(value: usize) -> usize {
    match value {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        given => given,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_annotated_defaults_are_complete_and_valid() {
        let config = Config::load(None).unwrap();
        // Every key of the typed form stands in the file, with a comment on the line above.
        let text = toml::to_string(&config).unwrap();
        let mut lines = DEFAULTS.lines();
        for key in text.lines().filter_map(|l| l.split_once(" = ").map(|(k, _)| k)) {
            let mut above = "";
            let found = lines.by_ref().any(|line| {
                let hit = line.starts_with(&format!("{key} = "));
                if !hit {
                    above = line;
                }
                hit
            });
            assert!(found, "{key} is missing or out of order in skyflight.toml");
            assert!(above.starts_with("# "), "{key} has no comment");
        }
    }

    #[test]
    fn an_unknown_key_fails_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "[worker]\nmemroy_mib = 5\n").unwrap();
        let message = format!("{:#}", Config::load(Some(&path)).unwrap_err());
        assert!(message.contains("memroy_mib"), "{message}");
    }

    #[test]
    fn listening_to_the_world_has_to_be_meant() {
        let mut config = Config::load(None).unwrap();
        config.coordinator.listen = "0.0.0.0:32010".parse().unwrap();
        assert!(config.check().unwrap_err().to_string().contains("SKYFLIGHT_OPEN"));
    }
}

//! Configuration: one TOML file, overridden by the environment, then by flags; read into raw
//! sections and checked before any port opens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};
use skyflight_proto::tls::{NodeTls, TlsFiles, development_files};
use skyflight_server::{AuthMode, EndpointMode, ShuffleMode};

/// The annotated defaults, which are also the documentation of every key.
pub(crate) const DEFAULTS: &str = include_str!("../skyflight.toml");

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) auth: AuthSection,
    pub(crate) tls: TlsSection,
    pub(crate) coordinator: CoordinatorSection,
    pub(crate) jobs: JobsSection,
    pub(crate) worker: WorkerSection,
    pub(crate) ingest: IngestSection,
    pub(crate) operations: OperationsSection,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationsSection {
    pub(crate) http_listen: String,
    pub(crate) otlp_endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthSection {
    pub(crate) mode: String,
    pub(crate) session_max_s: u64,
    pub(crate) token_ttl_s: u64,
    pub(crate) key_age_s: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) client_ca: String,
    pub(crate) demand_client_certificate: bool,
    pub(crate) development: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorSection {
    pub(crate) listen: SocketAddr,
    pub(crate) default_database: String,
    pub(crate) ticket_ttl_s: u64,
    pub(crate) superseded_grace_s: u64,
    pub(crate) drain_s: u64,
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
pub(crate) struct JobsSection {
    pub(crate) running: usize,
    pub(crate) running_per_user: usize,
    pub(crate) open_per_user: usize,
    pub(crate) result_ttl_s: u64,
    pub(crate) result_gib_per_user: u64,
    pub(crate) kept_gib_per_job: u64,
    pub(crate) blocking_limit_s: u64,
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
        let listen = self.coordinator.listen;
        self.tls.check()?;
        self.http_listen()?;
        if !listen.ip().is_loopback() && !allows_open() {
            ensure!(
                self.auth_mode()? == AuthMode::Users,
                "coordinator.listen = \"{listen}\" would serve without authentication beyond this machine; set \
                 auth.mode = \"users\", listen on 127.0.0.1, or set SKYFLIGHT_OPEN=yes if the network itself keeps \
                 strangers out"
            );
            ensure!(
                self.tls.is_on(),
                "coordinator.listen = \"{listen}\" would take passwords in clear beyond this machine; set \
                 tls.certificate and tls.key, listen on 127.0.0.1, or set SKYFLIGHT_OPEN=yes if the network itself \
                 keeps listeners out"
            );
        }
        self.check_worker(self.worker.listen)?;
        let positive = [
            (self.auth.session_max_s, "auth.session_max_s"),
            (self.auth.token_ttl_s, "auth.token_ttl_s"),
            (self.coordinator.ticket_ttl_s, "coordinator.ticket_ttl_s"),
            (self.coordinator.max_queries as u64, "coordinator.max_queries"),
            (self.coordinator.memory_mib as u64, "coordinator.memory_mib"),
            (self.coordinator.silence_timeout_s, "coordinator.silence_timeout_s"),
            (self.jobs.running as u64, "jobs.running"),
            (self.jobs.running_per_user as u64, "jobs.running_per_user"),
            (self.jobs.open_per_user as u64, "jobs.open_per_user"),
            (self.jobs.result_ttl_s, "jobs.result_ttl_s"),
            (self.jobs.result_gib_per_user, "jobs.result_gib_per_user"),
            (self.worker.count as u64, "worker.count"),
            (self.worker.memory_mib as u64, "worker.memory_mib"),
            (self.worker.batch_rows as u64, "worker.batch_rows"),
            (self.ingest.memory_mib as u64, "ingest.memory_mib"),
        ];
        for (value, key) in positive {
            ensure!(value > 0, "{key} must be at least 1");
        }
        ensure!(
            self.coordinator.superseded_grace_s >= self.coordinator.ticket_ttl_s,
            "coordinator.superseded_grace_s must be at least coordinator.ticket_ttl_s: a ticket names files"
        );
        let gib = [self.jobs.result_gib_per_user, self.jobs.kept_gib_per_job];
        ensure!(
            gib.iter().all(|gib| *gib <= 1 << 30),
            "jobs.result_gib_per_user and jobs.kept_gib_per_job are at most 2^30"
        );
        self.shuffle_mode().context("coordinator.shuffle")?;
        self.endpoint_mode().context("coordinator.endpoints")?;
        ensure!(self.worker.batch_rows <= 1 << 20, "worker.batch_rows is at most 1048576");
        Ok(())
    }

    /// Checks the address at which a worker is to listen, wherever it was said. Whoever has a ticket gets
    /// rows there, and in clear whoever listens gets both.
    pub(crate) fn check_worker(&self, listen: SocketAddr) -> Result<()> {
        ensure!(
            listen.ip().is_loopback() || self.tls.is_on() || allows_open(),
            "worker.listen = \"{listen}\" would send tickets and rows in clear beyond this machine; set \
             tls.certificate and tls.key, listen on 127.0.0.1, or set SKYFLIGHT_OPEN=yes if the network itself keeps \
             listeners out"
        );
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

    /// The hosts and addresses under which the processes of this configuration are reached, as far as
    /// it says them.
    pub(crate) fn own_names(&self) -> Vec<String> {
        let mut names: Vec<String> = [self.coordinator.listen, self.worker.listen]
            .iter()
            .filter(|address| !address.ip().is_unspecified())
            .map(|address| address.ip().to_string())
            .collect();
        let advertised =
            self.worker.advertise.rsplit_once(':').map_or(self.worker.advertise.as_str(), |(host, _)| host);
        if !advertised.is_empty() {
            names.push(advertised.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    /// The address of the HTTP port, if there is to be one. A port alone is one on this machine.
    pub(crate) fn http_listen(&self) -> Result<Option<SocketAddr>> {
        let given = self.operations.http_listen.trim();
        if given.is_empty() {
            return Ok(None);
        }
        let address = match given.parse::<u16>() {
            Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            Err(_) => given
                .parse()
                .with_context(|| format!("operations.http_listen = \"{given}\" is no address:port and no port"))?,
        };
        Ok(Some(address))
    }

    /// Who may ask.
    pub(crate) fn auth_mode(&self) -> Result<AuthMode> {
        self.auth.mode.parse().map_err(|wrong: String| anyhow!("auth.mode: {wrong}"))
    }
}

impl TlsSection {
    /// Whether there is TLS at all.
    pub(crate) fn is_on(&self) -> bool {
        self.development || !self.certificate.is_empty()
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.certificate.is_empty() == self.key.is_empty(),
            "tls.certificate and tls.key go together; one of them is missing"
        );
        ensure!(
            !self.development || self.certificate.is_empty(),
            "tls.development makes a certificate of its own; leave out tls.certificate, or set it to false"
        );
        ensure!(
            self.is_on() || (self.ca.is_empty() && self.client_ca.is_empty()),
            "tls.ca and tls.client_ca need tls.certificate and tls.key"
        );
        ensure!(
            !self.demand_client_certificate || self.development || !self.client_ca.is_empty(),
            "tls.demand_client_certificate needs tls.client_ca, which says whose certificates are good"
        );
        Ok(())
    }

    /// TLS as configured, if there is any. The development certificate lies in `folder`, is for `names`
    /// (hosts or addresses) too, and is made where it is missing.
    pub(crate) fn load(&self, folder: &Path, names: &[String]) -> Result<Option<Arc<NodeTls>>> {
        if !self.is_on() {
            return Ok(None);
        }
        let given = |key: &str| (!key.is_empty()).then(|| PathBuf::from(key));
        let files = match self.development {
            true => development_files(folder, names)?,
            false => TlsFiles {
                certificate: PathBuf::from(&self.certificate),
                key: PathBuf::from(&self.key),
                ca: given(&self.ca),
                client_ca: given(&self.client_ca),
                demand_client: false,
            },
        };
        Ok(Some(Arc::new(NodeTls::load(TlsFiles { demand_client: self.demand_client_certificate, ..files })?)))
    }
}

/// Whether somebody said that the network itself keeps strangers out.
#[expect(clippy::disallowed_methods, reason = "configuration is read here")]
fn allows_open() -> bool {
    std::env::var("SKYFLIGHT_OPEN").is_ok_and(|v| v == "yes")
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

    #[test]
    fn a_worker_does_not_speak_in_clear_to_the_world_unless_told() {
        let mut config = Config::load(None).unwrap();
        let everywhere = "[::]:32011".parse().unwrap();
        assert!(config.check_worker("127.0.0.1:0".parse().unwrap()).is_ok());
        let refused = config.check_worker(everywhere).unwrap_err().to_string();
        assert!(refused.contains("worker.listen") && refused.contains("SKYFLIGHT_OPEN"), "{refused}");
        config.worker.listen = everywhere;
        assert!(config.check().is_err());
        config.tls.certificate = "node.pem".to_owned();
        config.tls.key = "node.key".to_owned();
        config.check().unwrap();
    }
}

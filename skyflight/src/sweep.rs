//! Lets the files of replaced and dropped tables leave the workers, while a coordinator serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skyflight_ingest::Sweeper;
use skyflight_proto::tls::Dialer;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;
use crate::node::Home;

/// How often a sweep is made: ten times within the age at which files leave, and within these bounds.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const MOST_INTERVAL: Duration = Duration::from_secs(600);

/// Sweeps until the handle is dropped.
pub(crate) fn sweep(home: &Home, config: &Config) -> AbortOnDropHandle<()> {
    let dialer = Dialer::new(home.tls.clone());
    let index = home.folder.join("index");
    let sweeper = Sweeper::new(Arc::clone(&home.store), Arc::clone(&home.keys), dialer, index);
    let section = &config.coordinator;
    let age = Duration::from_secs(section.superseded_grace_s.saturating_add(section.ticket_ttl_s));
    AbortOnDropHandle::new(Handle::current().spawn(async move {
        let mut ticks = tokio::time::interval((age / 10).clamp(LEAST_INTERVAL, MOST_INTERVAL));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match sweeper.sweep(unix_ms_before(age)).await {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "superseded files removed"),
                Err(error) => tracing::warn!(%error, "superseded files stay until the next sweep"),
            }
        }
    }))
}

fn unix_ms_before(age: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(i64::MAX)
}

//! Keys and certificates change on disk while a server runs; it takes the new ones without a restart. The keys
//! of session tokens it changes itself when they are old: nobody else needs them.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::NodeTls;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Follows the file of the cluster's keys until the handle is dropped.
pub(crate) fn follow_keys(keys: Arc<ClusterKeys>, file: PathBuf) -> AbortOnDropHandle<()> {
    follow("cluster keys", move || keys.reload(&file))
}

/// Follows the file of the session tokens' keys until the handle is dropped, and lets keys older than `age` give
/// way to new ones, unless `age` is nothing. A key that signs no more is believed for as long as tokens are good.
pub(crate) fn rotate_keys(
    keys: Arc<ClusterKeys>,
    file: PathBuf,
    age: Duration,
    token_ttl: Duration,
) -> AbortOnDropHandle<()> {
    follow("keys of session tokens", move || {
        if !age.is_zero() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            ClusterKeys::rotate_file(&file, now, age, token_ttl + LOOK_INTERVAL * 2)?;
        }
        keys.reload(&file)
    })
}

/// Follows the files of a node's certificates until the handle is dropped.
pub(crate) fn follow_tls(tls: Arc<NodeTls>) -> AbortOnDropHandle<()> {
    follow("certificates", move || tls.reload())
}

/// Calls `reload`, which tells whether there was a change, again and again. What cannot be read is
/// told once; what was there before stays in use.
fn follow<E: Display + Send + 'static>(
    what: &'static str,
    reload: impl Fn() -> Result<bool, E> + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    let reload = Arc::new(reload);
    AbortOnDropHandle::new(Handle::current().spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let reload = Arc::clone(&reload);
            match tokio::task::spawn_blocking(move || reload()).await {
                Ok(Ok(changed)) => {
                    if changed {
                        tracing::info!(what, "changed on disk and taken");
                    }
                    failing = false;
                }
                Ok(Err(error)) => {
                    if !failing {
                        tracing::warn!(what, %error, "cannot be read again; what was there before stays in use");
                    }
                    failing = true;
                }
                // The runtime is going away.
                Err(_) => return,
            }
        }
    }))
}

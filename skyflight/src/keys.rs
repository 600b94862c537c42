//! `skyflight key`, and servers that follow what it does to their file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use skyflight_proto::{ClusterKeys, KeyStep};
use tokio_util::task::AbortOnDropHandle;

use crate::cli::{KeyAction, KeyArgs};

/// How often a server looks at its file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &KeyArgs) -> Result<()> {
    let step = match args.action {
        KeyAction::Add => Some(KeyStep::Add),
        KeyAction::Promote => Some(KeyStep::Promote),
        KeyAction::Retire => Some(KeyStep::Retire),
        KeyAction::List => None,
    };
    let keys = match step {
        Some(step) => ClusterKeys::step_file(&args.file, step)?,
        None => ClusterKeys::load(&args.file)?,
    };
    for (at, id) in keys.ids().iter().enumerate() {
        println!("{id} {}", if at == 0 { "signs" } else { "verifies" });
    }
    Ok(())
}

/// Reads the keys again whenever their file has changed, until the handle is dropped.
pub(crate) fn follow(keys: Arc<ClusterKeys>, file: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::runtime::Handle::current().spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let (keys, file) = (Arc::clone(&keys), file.clone());
            let looked =
                tokio::task::spawn_blocking(move || keys.reload(&file).map(|changed| (changed, keys.ids()))).await;
            match looked {
                Ok(Ok((changed, ids))) => {
                    if changed {
                        tracing::info!(?ids, "cluster keys have changed");
                    }
                    failing = false;
                }
                Ok(Err(error)) if !failing => {
                    tracing::warn!(%error, "cluster keys cannot be read again; the old ones stay");
                    failing = true;
                }
                Ok(Err(_)) => {}
                // The runtime is going away.
                Err(_) => return,
            }
        }
    }))
}

//! The fragments a worker has seen lately, decoded, by the hash of their encoded form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use skyflight_engine::fragment::{Fragment, FragmentRuntime};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::{Result, WorkerError};

/// How many bytes of encoded fragments the cache stands for. Decoded they take several times that.
const CACHED_BYTES: u64 = 32 << 20;
/// The least a fragment counts, so that small ones are bounded in number too.
const LEAST_BYTES: u32 = 4 << 10;
/// A fragment serves one query, and a query asks again soon or never.
const IDLE: Duration = Duration::from_secs(600);

/// SHA-256 of an encoded fragment.
pub(crate) type FragmentHash = [u8; 32];

#[derive(Debug, Clone)]
struct Cached {
    fragment: Arc<Fragment>,
    weight: u32,
}

/// Decodes fragments once, on the runtime that computes.
pub(crate) struct Fragments {
    decoder: Arc<FragmentRuntime>,
    runtime: Handle,
    cache: Cache<FragmentHash, Cached>,
}

impl Fragments {
    pub(crate) fn new(decoder: Arc<FragmentRuntime>, runtime: Handle) -> Fragments {
        let cache = Cache::builder()
            .max_capacity(CACHED_BYTES)
            .weigher(|_, cached: &Cached| cached.weight)
            .time_to_idle(IDLE)
            .build();
        Fragments { decoder, runtime, cache }
    }

    /// How many fragments are cached.
    pub(crate) async fn len(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        self.cache.entry_count()
    }

    /// The fragment of that hash: from the cache, else decoded from `inline`.
    ///
    /// # Errors
    /// `FragmentUnknown` when it is in neither; `Invalid` when `inline` has another hash; what
    /// decoding says.
    pub(crate) async fn get(&self, hash: FragmentHash, inline: Option<Bytes>) -> Result<Arc<Fragment>> {
        let Some(bytes) = inline else {
            let cached = self.cache.get(&hash).await;
            let unknown = || WorkerError::FragmentUnknown { hash: hex::encode(hash) };
            return Ok(cached.ok_or_else(unknown)?.fragment);
        };
        // Checked even when it is cached: whoever sends this is confused, and should hear it now.
        let found: FragmentHash = Sha256::digest(&bytes).into();
        if found != hash {
            let (found, hash) = (hex::encode(found), hex::encode(hash));
            return Err(WorkerError::Invalid(format!("the fragment's SHA-256 is {found}, its ticket says {hash}")));
        }
        let cached = self.cache.try_get_with(hash, self.decode(bytes)).await?;
        Ok(cached.fragment)
    }

    async fn decode(&self, bytes: Bytes) -> Result<Cached> {
        let decoder = Arc::clone(&self.decoder);
        let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(LEAST_BYTES);
        let decoding = self.runtime.spawn(async move { decoder.decode(&bytes) });
        let fragment = match AbortOnDropHandle::new(decoding).await {
            Ok(fragment) => fragment?,
            Err(error) if error.is_cancelled() => return Err(WorkerError::ShuttingDown),
            Err(error) => return Err(super::panicked(error)),
        };
        Ok(Cached { fragment: Arc::new(fragment), weight })
    }
}

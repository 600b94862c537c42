//! Tells whether a dispatch planned after a restart is the one that was planned before it.

use sha2::{Digest, Sha256};
use skyflight_engine::dispatch::DispatchRequest;
use skyflight_engine::frames::encode_schema;

/// What a dispatch is: its fragment, the schema of its rows, and its chunks with their files. Two of
/// the same fingerprint give the same rows for each chunk.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(request: &DispatchRequest) -> Fingerprint {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    // Another version may mean something else by the same plan.
    part(env!("CARGO_PKG_VERSION").as_bytes());
    part(&request.fragment.bytes);
    part(&encode_schema(&request.schema));
    for chunk in &request.chunks.chunks {
        part(&chunk.chunk.0.to_le_bytes());
        part(&chunk.files.iter().flat_map(|file| file.0.to_le_bytes()).collect::<Vec<u8>>());
        part(&chunk.files_per_scan.iter().flat_map(|files| files.to_le_bytes()).collect::<Vec<u8>>());
    }
    digest.finalize().into()
}

//! Skyflight: ingest.

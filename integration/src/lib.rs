//! Skyflight: integration.

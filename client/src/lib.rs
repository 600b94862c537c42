//! Skyflight: client.

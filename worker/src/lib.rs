//! Skyflight: worker.

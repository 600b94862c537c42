//! Skyflight: engine.

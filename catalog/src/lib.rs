//! Skyflight: catalog.

//! Skyflight: server.

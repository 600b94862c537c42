//! Skyflight: server.

pub mod dispatch;

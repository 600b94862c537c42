//! Skyflight: proto.

//! Whole-system tests and benchmarks of Skyflight. They drive the built binary from Python, with
//! the clients that astronomers use; see `integration/run`. The Rust side holds the test of the
//! arrows between crates.

//! Ingest against a cluster of fake workers: what arrives where, what fails how, and what it costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(clippy::cloned_ref_to_slice_refs, reason = "lists of one file read like lists of several")]

mod children;
mod directors;
mod failures;
mod index;
mod memory;
mod pairs;
mod real_catalogs;
mod support;
mod synthetic;

//! The Flight SQL face: decodes what clients send, calls, and encodes what they get.
//!
//! - [`face`]: the Flight service itself, one match per method over the Flight SQL commands;
//! - [`statement`]: statements and prepared statements, their tickets and handles;
//! - [`poll`], [`cancel`] and [`renew`]: what becomes of a query or a job after it was accepted;
//! - [`rows`]: a query's rows as Flight messages, relayed undecoded where nothing is computed here;
//! - [`metadata`]: what clients ask about catalogs, tables, keys, types and the server itself;
//! - [`put`] and [`actions`]: DoPut, which binds nothing and changes nothing, and DoAction.
//!
//! arrow-flight's `FlightSqlService` is not used, only its messages: its blanket service cannot
//! answer GetSchema, calls a malformed command `Internal`, and wants three methods for each of ten
//! metadata commands that here are one value.

mod actions;
mod cancel;
mod face;
mod message_limit;
mod metadata;
mod poll;
mod put;
mod renew;
mod rows;
mod statement;

pub(crate) use face::Face;
pub(crate) use message_limit::MessageLimit;
pub(crate) use statement::{Statements, StatementsConfig};

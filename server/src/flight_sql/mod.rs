//! The Flight SQL face: decodes what clients send, calls, and encodes what they get.
//!
//! - [`face`]: the Flight service itself, one match per method over the Flight SQL commands;
//! - [`statement`]: queries and their tickets; [`prepared`]: prepared statements and their handles;
//! - [`endpoints`]: where a client gets the rows, here or from the workers;
//! - [`commands`]: statements that are no queries, and what comes of them;
//! - [`own_tables`] and [`columns`]: tables that users make and fill, by SQL or by [`ingest`];
//! - [`poll`], [`cancel`] and [`renew`]: what becomes of a query or a job after it was accepted;
//! - [`promise`]: what tickets promise;
//! - [`rows`]: a query's rows as Flight messages, relayed undecoded where nothing is computed here,
//!   and handed on by a [`pump`];
//! - [`metadata`]: what clients ask about catalogs, tables, keys, types and the server itself;
//! - [`put`] and [`actions`]: DoPut, with what clients stream to it read by [`incoming`] within
//!   the bounds of [`growth`], and DoAction.
//!
//! arrow-flight's `FlightSqlService` is not used, only its messages: its blanket service cannot
//! answer GetSchema, calls a malformed command `Internal`, and wants three methods for each of ten
//! metadata commands that here are one value.

mod actions;
mod cancel;
mod columns;
mod commands;
mod endpoints;
mod face;
mod growth;
mod incoming;
mod ingest;
mod metadata;
mod own_tables;
mod poll;
mod prepared;
mod promise;
mod pump;
mod put;
mod renew;
mod rows;
mod statement;

pub(crate) use endpoints::EndpointPolicy;
pub(crate) use face::Face;
pub(crate) use own_tables::OwnTables;
pub(crate) use statement::{Statements, StatementsConfig};

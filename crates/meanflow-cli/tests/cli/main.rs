//! The program as a user runs it.

mod bad_input;
mod commands;
mod routes;
mod support;

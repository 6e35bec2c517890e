//! The process edge: configuration, telemetry, the command line and the HTTP interface. Decisions are made in `domain`, work is done in `workers`.

pub mod bench;
pub mod caller;
pub mod chaos;
pub mod child;
pub mod cli;
pub mod config;
pub mod demo;
pub mod ingress;
pub mod local;
pub mod portal;
pub mod run;
mod spelling;
pub mod subscriber;
pub mod telemetry;

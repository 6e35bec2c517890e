//! The process edge: configuration, telemetry, the command line and the HTTP interface. Decisions are made in `domain`, work is done in `workers`.

pub mod ingress;

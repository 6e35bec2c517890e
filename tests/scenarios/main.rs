//! Stories of the whole system: real Redis, real sockets.

mod ingress;
mod support;

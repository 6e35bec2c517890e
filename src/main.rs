//! The one binary. See `payrelay --help`.

use std::process::ExitCode;

use clap::Parser as _;
use payrelay::cli;

/// A request allocates some hundred times, on any thread: the system's allocator took a fifth of the time of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything can want TLS: a second provider in the tree, or none installed, is a panic at the first handshake. It fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::main(cli::Arguments::parse())
}

//! What the pages are made of beside HTML: a stylesheet, a script of our own, and htmx as its authors publish it. All of it is in the binary.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::RustEmbed;

use crate::ingress::problem::Problem;

#[derive(RustEmbed)]
#[folder = "src/portal/assets/"]
struct Files;

/// Anybody may have them; they are the same for all.
pub(super) async fn one(Path(name): Path<String>) -> Result<Response, Problem> {
    let file = Files::get(&name).ok_or_else(|| Problem::not_found("page"))?;
    let kind = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    // Their addresses change with this build, see `address`.
    let kept = HeaderValue::from_static("public, max-age=86400, immutable");
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, kept)], file.data.into_owned()).into_response())
}

/// Where a file is. Names its content, so that no browser goes on with that of an earlier build.
pub(super) fn address(name: &str) -> String {
    let hash = Files::get(name).map(|file| file.metadata.sha256_hash()).unwrap_or_default();
    let version: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("/portal/assets/{name}?v={version}")
}

//! The interface for machines: OpenAPI 3.1, made of the routes' own types.
//!
//! The same document is committed as `docs/api/openapi.json`; a test compares the two.

use std::sync::OnceLock;

use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{ContactBuilder, InfoBuilder, OpenApi, OpenApiBuilder};

/// The document.
pub fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Formation")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The API of a node: signed commands in, views and events out. Views may be read by everyone; what \
             is private (logs, uploads) takes a request signed with the account's key. Every error is a \
             problem (RFC 9457) with a `code` for programs and a `hint` for people.",
        ))
        .contact(None::<ContactBuilder>.map(ContactBuilder::build))
        .build();
    let routes = crate::routes::openapi();
    let mut components = routes.components.unwrap_or_default();
    components.add_security_scheme(
        "http_signature",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "Signature",
            "HTTP Message Signatures (RFC 9421) with Ed25519, label `form`, tag `formation`, within 60 seconds \
             and once; covers @method, @path, @query and, with a body, content-digest and content-length.",
        ))),
    );
    OpenApiBuilder::new()
        .info(info)
        .paths(routes.paths)
        .components(Some(components))
        .build()
}

/// The document as text, with a line break at its end.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut text = openapi().to_pretty_json().expect("the document is plain values");
        text.push('\n');
        text
    })
}

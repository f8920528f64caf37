//! The committed document is the one that the code makes.

use std::path::Path;

use api::problem::ErrorCode;
use api::{openapi, path};

#[test]
fn the_committed_openapi_document_is_the_one_of_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, openapi::document()).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == openapi::document(),
        "docs/api/openapi.json is not what the code says: run `UPDATE=1 cargo test -p api openapi` and commit it"
    );
}

#[test]
fn every_path_constant_is_in_the_document() {
    let document = openapi::openapi();
    let documented: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
    let mut constants = vec![
        path::COMMANDS,
        path::COMMAND,
        path::ACCOUNTS,
        path::ACCOUNT,
        path::ACCOUNT_KEYS,
        path::ACCOUNT_CREDITS,
        path::CHARTER,
        path::ACTS,
        path::ACT,
        path::AGENTS,
        path::AGENT,
        path::BUILDS,
        path::BUILD,
        path::BUILD_LOG,
        path::INSTANCES,
        path::INSTANCE,
        path::INSTANCE_LOGS,
        path::NODES,
        path::NODE,
        path::DOMAINS,
        path::DOMAIN,
        path::OPS,
        path::OPS_VERIFY,
        path::OPS_EXPORT,
        path::LEDGER,
        path::OP,
        path::STATUS,
        path::NETWORK,
        path::EVENTS,
        path::UPLOADS,
        path::HEALTHZ,
        path::READYZ,
        path::METRICS,
        path::OPENAPI,
    ];
    constants.sort_unstable();
    assert_eq!(documented, constants);
}

#[test]
fn no_reference_in_the_document_leads_nowhere() {
    let document: serde_json::Value = serde_json::from_str(openapi::document()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = openapi::document();
    let mut count = 0;
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
        count += 1;
    }
    assert!(count > 50, "{count}");
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[test]
fn the_page_about_errors_has_each_code_at_its_status() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/README.md");
    let page = std::fs::read_to_string(file).unwrap();
    for code in ErrorCode::ALL {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", code.status().as_u16())));
        let row = row.unwrap_or_else(|| panic!("no row for {}", code.status()));
        assert!(
            row.contains(&format!("`{}`", code.as_str())),
            "`{}` is not in `{row}`",
            code.as_str()
        );
    }
}

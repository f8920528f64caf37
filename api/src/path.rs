//! Where things are: one list of paths, shared by the server, the client and the OpenAPI document.
//!
//! `{id}` is the place of a parameter; [`fill`] puts a value there.

/// `POST`: a signed command.
pub const COMMANDS: &str = "/v1/commands";
/// What became of a command.
pub const COMMAND: &str = "/v1/commands/{id}";
/// Accounts.
pub const ACCOUNTS: &str = "/v1/accounts";
/// One account, by id, name or the beginning of its id.
pub const ACCOUNT: &str = "/v1/accounts/{id}";
/// Keys of an account.
pub const ACCOUNT_KEYS: &str = "/v1/accounts/{id}/keys";
/// Credits of an account: its balance, rights and holds.
pub const ACCOUNT_CREDITS: &str = "/v1/accounts/{id}/credits";
/// Agents.
pub const AGENTS: &str = "/v1/agents";
/// One agent, by id, name or the beginning of its id.
pub const AGENT: &str = "/v1/agents/{id}";
/// Builds of images.
pub const BUILDS: &str = "/v1/builds";
/// One build, by id or the beginning of it.
pub const BUILD: &str = "/v1/builds/{id}";
/// What a build wrote; private.
pub const BUILD_LOG: &str = "/v1/builds/{id}/log";
/// Instances.
pub const INSTANCES: &str = "/v1/instances";
/// One instance, by id, the beginning of it, or its name where only one account uses it.
pub const INSTANCE: &str = "/v1/instances/{id}";
/// What an instance wrote; private.
pub const INSTANCE_LOGS: &str = "/v1/instances/{id}/logs";
/// Nodes.
pub const NODES: &str = "/v1/nodes";
/// One node, by id, the beginning of it, or its name where only one node uses it.
pub const NODE: &str = "/v1/nodes/{id}";
/// Who the admins are and what they have settled.
pub const CHARTER: &str = "/v1/charter";
/// What the admins do together: what waits for approvals, and what was done lately.
pub const ACTS: &str = "/v1/acts";
/// One act, by id or the beginning of it.
pub const ACT: &str = "/v1/acts/{id}";
/// Claimed domain names.
pub const DOMAINS: &str = "/v1/domains";
/// One claimed domain name.
pub const DOMAIN: &str = "/v1/domains/{id}";
/// The log.
pub const OPS: &str = "/v1/ops";
/// Checks the whole log again.
pub const OPS_VERIFY: &str = "/v1/ops/verify";
/// The whole log as a file.
pub const OPS_EXPORT: &str = "/v1/ops/export";
/// One op.
pub const OP: &str = "/v1/ops/{id}";
/// The ledger of the answering node.
pub const LEDGER: &str = "/v1/ledger";
/// How the answering node is.
pub const STATUS: &str = "/v1/status";
/// What network this is.
pub const NETWORK: &str = "/v1/network";
/// What happens, as server-sent events.
pub const EVENTS: &str = "/v1/events";
/// `POST`: the context of a build.
pub const UPLOADS: &str = "/v1/uploads";
/// Whether the process answers.
pub const HEALTHZ: &str = "/healthz";
/// Whether the node can serve.
pub const READYZ: &str = "/readyz";
/// Figures for Prometheus.
pub const METRICS: &str = "/metrics";
/// This interface, for machines.
pub const OPENAPI: &str = "/openapi.json";

/// `path` with `value` in the place of its `{id}`, escaped (RFC 3986).
pub fn fill(path: &str, value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    path.replace("{id}", &escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_in_value_never_changes_the_path_around_it() {
        assert_eq!(fill(BUILD_LOG, "a/../b?c"), "/v1/builds/a%2F..%2Fb%3Fc/log");
    }
}

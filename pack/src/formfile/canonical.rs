//! A Formfile as text again: one spelling for each meaning, defaults written out, fit for hashing and sending.
//!
//! The law: parsing what stands here gives the same value, without a complaint.

use super::{Account, EnvVar, Formfile, Need, Scope, Step};
use crate::image::HealthCheck;
use std::fmt::Write;

impl Formfile {
    /// The canonical text. It still holds clear passwords, if any: see [`Formfile::redacted`].
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("NAME {}", self.name));
        if let Some(description) = &self.description {
            line(format!("DESCRIPTION {description}"));
        }
        line(format!("FROM {}", self.base.word()));
        for model in &self.models {
            let need = match model.need {
                Need::Required => "required",
                Need::Preferred => "preferred",
            };
            line(format!("MODEL {need}:{}", model.id));
        }
        line(format!("VCPU {}", self.shape.vcpus));
        line(format!("MEMORY {}", self.shape.memory_mib));
        line(format!("DISK {}", self.shape.disk_gib));
        for gpu in &self.shape.gpus {
            line(format!("GPU {}:{}", gpu.model.word(), gpu.count));
        }
        for account in &self.accounts {
            line(user(account));
        }
        line(format!("WORKDIR {}", quoted(&self.workdir)));
        for step in &self.steps {
            line(match step {
                Step::Install { packages } => format!("INSTALL {}", packages.join(" ")),
                Step::Run { command } => format!("RUN {command}"),
                // `./` keeps a name that begins with a dash from looking like an option.
                Step::Copy { from, to } if from.starts_with('-') => {
                    format!("COPY {} {}", quoted(&format!("./{from}")), quoted(to))
                }
                Step::Copy { from, to } => format!("COPY {} {}", quoted(from), quoted(to)),
                Step::Env(var) => env(var),
            });
        }
        if !self.expose.is_empty() {
            let ports: Vec<String> = self.expose.iter().map(u16::to_string).collect();
            line(format!("EXPOSE {}", ports.join(" ")));
        }
        if !self.domains.is_empty() {
            line(format!("DOMAINS {}", self.domains.join(" ")));
        }
        line(match &self.health {
            HealthCheck::None => "HEALTHCHECK none".into(),
            HealthCheck::Tcp { port } => format!("HEALTHCHECK tcp {port}"),
            HealthCheck::Http { path, port } => format!("HEALTHCHECK http {path} {port}"),
        });
        if !self.entrypoint.is_empty() {
            let json = serde_json::to_string(&self.entrypoint).expect("strings are always JSON");
            line(format!("ENTRYPOINT {json}"));
        }
        out
    }
}

fn user(account: &Account) -> String {
    let mut out = format!("USER username:{}", account.username);
    let mut field = |name: &str, value: &str| {
        let _ = write!(out, " {name}:{}", quoted(value));
    };
    if let Some(password) = &account.password {
        field("passwd", password.text());
    }
    if !account.ssh_authorized_keys.is_empty() {
        field("ssh_authorized_keys", &account.ssh_authorized_keys.join(","));
    }
    if !account.groups.is_empty() {
        field("groups", &account.groups.join(","));
    }
    field("shell", &account.shell);
    for (name, yes) in [
        ("lock_passwd", account.lock_passwd),
        ("sudo", account.sudo),
        ("ssh_pwauth", account.ssh_pwauth),
        ("disable_root", account.disable_root),
        ("chpasswd_expire", account.chpasswd_expire),
    ] {
        field(name, if yes { "true" } else { "false" });
    }
    out
}

fn env(var: &EnvVar) -> String {
    let pair = format!("{}={}", var.key, quoted(&var.value));
    match &var.scope {
        Scope::System => format!("ENV {pair}"),
        Scope::User(name) => format!("ENV --scope=user:{name} {pair}"),
        Scope::Service(name) => format!("ENV --scope=service:{name} {pair}"),
    }
}

/// One word of any text without control characters. There are no escapes, so a text with both kinds of quotes
/// is written in pieces.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:=@%+,$~!*()[]{}<>|&;?^#".contains(c);
    if text.is_empty() {
        return "''".into();
    }
    if text.chars().all(plain) {
        return text.into();
    }
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    text.split('\'')
        .map(|piece| {
            if piece.is_empty() {
                String::new()
            } else {
                format!("'{piece}'")
            }
        })
        .collect::<Vec<_>>()
        .join("\"'\"")
}

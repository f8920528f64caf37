//! From a Formfile to the ordered steps of its build, each with the key of all that led to it.
//!
//! Not here: doing any of it (`io/build.rs`). Two builds whose step has the same key have the same tree after
//! it, so a builder may take the tree of one for the other.

use crate::formfile::{Account, Base, EnvVar, Formfile, Scope, Step};
use crate::image::{Digest, DigestHasher, DigestKind, ImageConfig};

/// Changes with what a builder does for a step, so that trees made by older code are not taken for new ones.
pub const RECIPE_VERSION: u32 = 1;

/// All that a build does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlan {
    /// Where it begins.
    pub base: Base,
    /// What follows.
    pub steps: Vec<PlannedStep>,
    /// What the image says of itself.
    pub config: ImageConfig,
    /// The Formfile.
    pub formfile_digest: Digest,
}

/// One step and the key of the tree after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// What to do.
    pub action: StepAction,
    /// Hash of the key before, the action, and the content that it copies.
    pub key: Digest,
}

/// What a builder can do to a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepAction {
    /// apt-get install.
    Install {
        /// Names, checked.
        packages: Vec<String>,
    },
    /// Make the account.
    Account(Account),
    /// Run in the sandbox.
    Run {
        /// For `/bin/sh -c`.
        command: String,
        /// Variables of system scope so far.
        env: Vec<(String, String)>,
        /// Where; it is made if missing.
        workdir: String,
    },
    /// Copy from the context.
    Copy {
        /// Relative to the context.
        from: String,
        /// Absolute; a `/` at the end means "into".
        to: String,
    },
    /// Write the variables for logins and services, make WORKDIR.
    Settle {
        /// In order; a later one wins.
        env: Vec<EnvVar>,
        /// Made if missing.
        workdir: String,
    },
}

impl std::fmt::Display for StepAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepAction::Install { packages } => write!(f, "INSTALL {}", packages.join(" ")),
            StepAction::Account(account) => write!(f, "USER {}", account.username),
            StepAction::Run { command, .. } => write!(f, "RUN {command}"),
            StepAction::Copy { from, to } => write!(f, "COPY {from} {to}"),
            StepAction::Settle { env, .. } => write!(f, "settle WORKDIR and {} of ENV", env.len()),
        }
    }
}

/// A source of COPY that the context does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("COPY {from}: the context holds no such file")]
pub struct MissingSource {
    /// As the Formfile names it.
    pub from: String,
}

/// Plans the build. `base_key` names the content of the base's tree; `content` gives the digest of what lies
/// at a path of the context.
///
/// Packages that stand first are installed before accounts are made, so that a changed key or password does
/// not install them anew; every RUN and COPY sees the accounts.
pub fn plan(
    formfile: &Formfile,
    base_key: Digest,
    mut content: impl FnMut(&str) -> Option<Digest>,
) -> Result<BuildPlan, MissingSource> {
    let mut actions: Vec<(StepAction, Option<Digest>)> = Vec::new();
    let mut accounts = Some(account_actions(formfile));
    let mut env: Vec<(String, String)> = Vec::new();
    let mut variables: Vec<EnvVar> = Vec::new();
    for step in &formfile.steps {
        if !matches!(step, Step::Install { .. } | Step::Env(_)) {
            actions.extend(accounts.take().into_iter().flatten().map(|action| (action, None)));
        }
        match step {
            Step::Install { packages } => {
                actions.push((
                    StepAction::Install {
                        packages: packages.clone(),
                    },
                    None,
                ));
            }
            Step::Run { command } => {
                let workdir = formfile.workdir.clone();
                actions.push((
                    StepAction::Run {
                        command: command.clone(),
                        env: env.clone(),
                        workdir,
                    },
                    None,
                ));
            }
            Step::Copy { from, to } => {
                let digest = content(from).ok_or_else(|| MissingSource { from: from.clone() })?;
                actions.push((
                    StepAction::Copy {
                        from: from.clone(),
                        to: to.clone(),
                    },
                    Some(digest),
                ));
            }
            Step::Env(var) => {
                if var.scope == Scope::System {
                    match env.iter_mut().find(|(key, _)| *key == var.key) {
                        Some((_, value)) => value.clone_from(&var.value),
                        None => env.push((var.key.clone(), var.value.clone())),
                    }
                }
                variables.push(var.clone());
            }
        }
    }
    actions.extend(accounts.take().into_iter().flatten().map(|action| (action, None)));
    actions.push((
        StepAction::Settle {
            env: variables,
            workdir: formfile.workdir.clone(),
        },
        None,
    ));

    let mut key = base_key;
    let steps = actions
        .into_iter()
        .map(|(action, content)| {
            key = step_key(key, &action, content);
            PlannedStep { action, key }
        })
        .collect();
    let config = ImageConfig {
        entrypoint: formfile.entrypoint.clone(),
        env,
        workdir: formfile.workdir.clone(),
        expose: formfile.expose.clone(),
        health: formfile.health.clone(),
    };
    Ok(BuildPlan {
        base: formfile.base,
        steps,
        config,
        formfile_digest: formfile.digest(),
    })
}

/// The accounts, and sudo itself where one asks for it: the base has none, and the field would do nothing.
fn account_actions(formfile: &Formfile) -> Vec<StepAction> {
    let installed = formfile.steps.iter().any(|step| {
        matches!(step, Step::Install { packages }
            if packages.iter().any(|name| name == "sudo" || name.starts_with("sudo=")))
    });
    let wanted = formfile.accounts.iter().any(|account| account.sudo);
    let sudo = (wanted && !installed && formfile.base == Base::DebianBookworm).then(|| StepAction::Install {
        packages: vec!["sudo".into()],
    });
    sudo.into_iter()
        .chain(formfile.accounts.iter().cloned().map(StepAction::Account))
        .collect()
}

fn step_key(before: Digest, action: &StepAction, content: Option<Digest>) -> Digest {
    let mut hasher = DigestHasher::new(DigestKind::BuildStep);
    hasher.part(&RECIPE_VERSION.to_le_bytes());
    hasher.part(&before.0);
    let mut list = |kind: &str, fields: &[&str]| {
        hasher.field(kind.as_bytes());
        hasher.part(&(fields.len() as u64).to_le_bytes());
        for field in fields {
            hasher.field(field.as_bytes());
        }
    };
    match action {
        StepAction::Install { packages } => {
            list(
                "install",
                &packages.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
        StepAction::Account(account) => {
            // The JSON never holds the password, so it goes in beside it.
            let json = serde_json::to_string(account).expect("an account has only texts and switches");
            list("account", &[&json, account.password_text()]);
        }
        StepAction::Run {
            command,
            env,
            workdir,
        } => {
            let mut fields = vec![command.as_str(), workdir.as_str()];
            fields.extend(env.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
            list("run", &fields);
        }
        StepAction::Copy { from, to } => list("copy", &[from, to]),
        StepAction::Settle { env, workdir } => {
            let json = serde_json::to_string(env).expect("variables are texts");
            list("settle", &[&json, workdir]);
        }
    }
    if let Some(content) = content {
        hasher.part(&content.0);
    }
    hasher.finish()
}

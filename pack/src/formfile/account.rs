//! An account that USER asks for: its fields, their rules, and its password's way from clear to hash.
//!
//! Not here: how an account is written into an image (`io/accounts.rs`).

use super::text::{Findings, Line, Word};
use serde::Serialize;
use sha_crypt::{CustomizedPasswordHasher, Params, ShaCrypt};

/// Most characters of a user's or group's name.
pub(super) const USERNAME_MAX: usize = 32;
/// Most bytes of a password; sha512-crypt's work grows with them.
pub(super) const PASSWORD_BYTES_MAX: usize = 256;
/// Most keys of one account.
pub(super) const SSH_KEYS_MAX: usize = 32;
/// Most groups of one account.
pub(super) const GROUPS_MAX: usize = 32;
/// Rounds of sha512-crypt, as the earlier system had them.
pub(super) const PASSWORD_ROUNDS: u32 = 4096;

/// One USER directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// `username`.
    pub username: String,
    /// `passwd`. Never serialised.
    #[serde(skip)]
    pub password: Option<Password>,
    /// `ssh_authorized_keys`.
    pub ssh_authorized_keys: Vec<String>,
    /// `lock_passwd`: the password opens nothing.
    pub lock_passwd: bool,
    /// `sudo`: everything, without a password.
    pub sudo: bool,
    /// `shell`.
    pub shell: String,
    /// `ssh_pwauth`: sshd takes the password.
    pub ssh_pwauth: bool,
    /// `disable_root`: root has no password and no ssh.
    pub disable_root: bool,
    /// `chpasswd_expire`: the password must be changed at the first login.
    pub chpasswd_expire: bool,
    /// `groups`, besides its own.
    pub groups: Vec<String>,
}

/// A password, in clear only where it was just typed.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// As typed.
    Clear(String),
    /// `$6$...`, fit for a shadow file.
    Hashed(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Password::Clear(_) => write!(f, "Clear(..)"),
            Password::Hashed(_) => write!(f, "Hashed(..)"),
        }
    }
}

impl Password {
    /// A hash if it is one, else a clear password.
    fn read(text: &str) -> Password {
        if is_sha512_crypt(text) {
            Password::Hashed(text.into())
        } else {
            Password::Clear(text.into())
        }
    }

    /// What the Formfile holds.
    pub(super) fn text(&self) -> &str {
        match self {
            Password::Clear(text) | Password::Hashed(text) => text,
        }
    }
}

/// `$6$[rounds=N$]SALT$HASH` with the right letters and lengths; nobody's clear password looks so by chance.
fn is_sha512_crypt(text: &str) -> bool {
    const HASH_CHARS: usize = 86;
    let crypt_letters = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
    };
    let Some(rest) = text.strip_prefix("$6$") else {
        return false;
    };
    let rest = match rest.strip_prefix("rounds=") {
        Some(rounds) => match rounds.split_once('$') {
            Some((digits, rest)) if (4..=9).contains(&digits.len()) && digits.parse::<u32>().is_ok() => rest,
            _ => return false,
        },
        None => rest,
    };
    rest.split_once('$').is_some_and(|(salt, hash)| {
        (1..=16).contains(&salt.len())
            && hash.len() == HASH_CHARS
            && crypt_letters(salt)
            && crypt_letters(hash)
    })
}

impl Account {
    /// The text of the password as the Formfile holds it, or nothing.
    pub(crate) fn password_text(&self) -> &str {
        self.password.as_ref().map_or("", Password::text)
    }

    /// Replaces a clear password by its hash, salted from `secret`.
    pub(super) fn hash_password(&mut self, secret: &[u8; 32]) {
        let Some(Password::Clear(clear)) = &self.password else {
            return;
        };
        // The secret keeps the salt from being a fast test of guesses; the name keeps equal passwords apart.
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher
            .update(self.username.as_bytes())
            .update(&[0])
            .update(clear.as_bytes());
        let digest = hasher.finalize();
        let salt = &digest.as_bytes()[..12];
        let params = Params::new(PASSWORD_ROUNDS).expect("the rounds lie within what sha-crypt allows");
        let hash = ShaCrypt::SHA512
            .hash_password_customized(clear.as_bytes(), salt, None, None, params)
            .expect("salt and parameters are of the size that sha-crypt asks for");
        self.password = Some(Password::Hashed(hash.as_str().to_string()));
    }
}

const FIELDS: [&str; 10] = [
    "username",
    "passwd",
    "ssh_authorized_keys",
    "lock_passwd",
    "sudo",
    "shell",
    "ssh_pwauth",
    "disable_root",
    "chpasswd_expire",
    "groups",
];

const KEY_KINDS: [&str; 8] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Reads the words of one USER; complains of all that is wrong in them.
pub(super) fn read(line: &Line, words: &[Word], findings: &mut Findings) -> Option<Account> {
    let before = findings.complaints.len();
    let mut account = Account {
        username: String::new(),
        password: None,
        ssh_authorized_keys: Vec::new(),
        lock_passwd: false,
        sudo: false,
        shell: "/bin/bash".into(),
        ssh_pwauth: true,
        disable_root: true,
        chpasswd_expire: true,
        groups: Vec::new(),
    };
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        let span = line.span(word.range.clone());
        let Some((field, value)) = word.text.split_once([':', '=']) else {
            findings
                .complain(span, format!("`{}` is no field of USER", word.text))
                .expected("field:value or field=value")
                .hint("put quotes around a value that holds blanks");
            continue;
        };
        let Some(known) = FIELDS.iter().find(|known| **known == field) else {
            let complaint = findings.complain(span, format!("USER has no field `{field}`"));
            complaint.expected(FIELDS.join(", "));
            if let Some(near) = super::directives::nearest(field, &FIELDS) {
                complaint.hint(format!("did you mean `{near}`?"));
            }
            continue;
        };
        if seen.contains(known) {
            findings
                .complain(span, format!("`{field}` stands twice in this USER"))
                .hint("keep one of them");
            continue;
        }
        seen.push(known);
        let problem = set(&mut account, known, value);
        if let Err((message, expected)) = problem {
            findings.complain(span, message).expected(expected);
        }
    }
    if !seen.contains(&"username") {
        findings
            .complain(line.whole(), "this USER has no username")
            .expected("USER username:NAME ...")
            .hint("a name has at most 32 of a-z, 0-9, _ and -, and begins with a letter or _");
    }
    (findings.complaints.len() == before).then_some(account)
}

fn set(account: &mut Account, field: &str, value: &str) -> Result<(), (String, String)> {
    if value.is_empty() {
        return Err((format!("`{field}` is empty"), format!("{field}:VALUE")));
    }
    match field {
        "username" => {
            account.username = name(value)?;
            Ok(())
        }
        "passwd" => {
            if value.len() > PASSWORD_BYTES_MAX {
                return Err((
                    format!("the password has more than {PASSWORD_BYTES_MAX} bytes"),
                    format!("at most {PASSWORD_BYTES_MAX} bytes"),
                ));
            }
            account.password = Some(Password::read(value));
            Ok(())
        }
        "ssh_authorized_keys" => {
            account.ssh_authorized_keys = list(value, SSH_KEYS_MAX, ssh_key)?;
            Ok(())
        }
        "groups" => {
            account.groups = list(value, GROUPS_MAX, name)?;
            Ok(())
        }
        "shell" => {
            let plain = value.starts_with('/')
                && !value.contains(':')
                && !value.contains(char::is_whitespace)
                && value.len() <= super::PATH_BYTES_MAX;
            if !plain {
                return Err((
                    format!("the shell `{value}` is no absolute path"),
                    "a path like /bin/bash".into(),
                ));
            }
            account.shell = value.into();
            Ok(())
        }
        _ => {
            let yes = switch(value).ok_or_else(|| {
                (
                    format!("`{field}` is a switch, `{value}` is none of its words"),
                    "true, yes, 1, on, false, no, 0 or off".to_string(),
                )
            })?;
            match field {
                "lock_passwd" => account.lock_passwd = yes,
                "sudo" => account.sudo = yes,
                "ssh_pwauth" => account.ssh_pwauth = yes,
                "disable_root" => account.disable_root = yes,
                _ => account.chpasswd_expire = yes,
            }
            Ok(())
        }
    }
}

fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn list(
    value: &str,
    most: usize,
    read: impl Fn(&str) -> Result<String, (String, String)>,
) -> Result<Vec<String>, (String, String)> {
    let items: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.len() > most {
        return Err((
            format!("{} items stand here", items.len()),
            format!("at most {most}"),
        ));
    }
    let mut read_items: Vec<String> = Vec::new();
    for item in items {
        let item = read(item)?;
        if !read_items.contains(&item) {
            read_items.push(item);
        }
    }
    Ok(read_items)
}

fn ssh_key(text: &str) -> Result<String, (String, String)> {
    let mut words = text.split_whitespace();
    let well_formed = words.any(|word| KEY_KINDS.contains(&word))
        && words.next().is_some_and(|blob| {
            blob.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        });
    if well_formed {
        Ok(text.into())
    } else {
        let shown: String = text.chars().take(24).collect();
        Err((
            format!("`{shown}` is no public ssh key"),
            "a key like `ssh-ed25519 AAAA... comment`".into(),
        ))
    }
}

/// A user's or group's name.
fn name(text: &str) -> Result<String, (String, String)> {
    if is_username(text) {
        return Ok(text.into());
    }
    Err((
        format!("`{text}` is no name of a user or group"),
        format!("at most {USERNAME_MAX} of a-z, 0-9, _ and -, beginning with a letter or _"),
    ))
}

/// Whether a user or group may be called so.
pub(super) fn is_username(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= USERNAME_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

//! The account files of a Debian tree (passwd, shadow, group) as text, and what USER does to them.
//!
//! Not here: reading and writing them in a tree, and home directories (`io/edits.rs`). What useradd would do,
//! without its locks and its clock.

use crate::ext4::EPOCH;
use crate::formfile::{Account, Password};

/// The first number of a person's account.
const UID_FIRST: u32 = 1000;
const UID_LAST: u32 = 59_999;
/// Groups that USER names and nobody made yet get numbers like a package's.
const SYSTEM_GID_LAST: u32 = 999;
/// The day that stands for "when this account's password was set".
const DAY: u32 = EPOCH / 86_400;

/// The three files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFiles {
    /// /etc/passwd.
    pub passwd: String,
    /// /etc/shadow.
    pub shadow: String,
    /// /etc/group.
    pub group: String,
}

/// Where an account ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub uid: u32,
    /// Its own group's number.
    pub gid: u32,
    /// Its home.
    pub home: String,
    /// Whether it was made just now.
    pub new: bool,
}

/// Why an account cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No number is free.
    #[error("no number is free for {0}")]
    Full(String),
    /// The password never became a hash.
    #[error("the password of {0} is still in clear")]
    Clear(String),
    /// The files hold nonsense.
    #[error("{0} has a line in /etc/passwd that cannot be read")]
    Unreadable(String),
}

fn fields<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
}

fn numbers(text: &str, at: usize) -> Vec<u32> {
    text.lines()
        .filter_map(|line| line.split(':').nth(at)?.parse().ok())
        .collect()
}

/// Puts `line` in place of the line of `name`, or at the end.
fn put(text: &mut String, name: &str, line: &str) {
    let mut out = String::with_capacity(text.len() + line.len() + 1);
    let mut done = false;
    for old in text.lines() {
        let same = old.split(':').next() == Some(name);
        if !same {
            out.push_str(old);
        } else if !done {
            out.push_str(line);
        } else {
            continue;
        }
        done |= same;
        out.push('\n');
    }
    if !done {
        out.push_str(line);
        out.push('\n');
    }
    *text = out;
}

impl AccountFiles {
    /// The number, group and home of an account that is there.
    pub fn find(&self, name: &str) -> Option<Placed> {
        let fields = fields(&self.passwd, name)?;
        let [_, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some(Placed {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).into(),
            new: false,
        })
    }

    /// Makes the account, or changes the one of that name.
    pub fn apply(&mut self, account: &Account) -> Result<Placed, AccountError> {
        let name = account.username.as_str();
        let placed = if fields(&self.passwd, name).is_some() {
            self.find(name)
                .ok_or_else(|| AccountError::Unreadable(name.into()))?
        } else {
            self.place(name)?
        };
        let Placed { uid, gid, home, .. } = &placed;
        put(
            &mut self.passwd,
            name,
            &format!("{name}:x:{uid}:{gid}:{name}:{home}:{}", account.shell),
        );
        self.set_password(account)?;
        let sudo = account.sudo.then_some("sudo");
        for group in account.groups.iter().map(String::as_str).chain(sudo) {
            self.join_group(group, name)?;
        }
        if account.disable_root && name != "root" && fields(&self.shadow, "root").is_some() {
            put(&mut self.shadow, "root", &format!("root:*:{DAY}:0:99999:7:::"));
        }
        Ok(placed)
    }

    fn place(&mut self, name: &str) -> Result<Placed, AccountError> {
        let (uids, gids) = (numbers(&self.passwd, 2), numbers(&self.group, 2));
        // A group of that name may have come with a package.
        let known = fields(&self.group, name).and_then(|group| group.get(2)?.parse().ok());
        let free = |n: &u32| !uids.contains(n) && (known.is_some() || !gids.contains(n));
        let uid = (UID_FIRST..=UID_LAST)
            .find(free)
            .ok_or_else(|| AccountError::Full(name.into()))?;
        let gid = known.unwrap_or(uid);
        if known.is_none() {
            put(&mut self.group, name, &format!("{name}:x:{gid}:"));
        }
        let home = if name == "root" {
            "/root".into()
        } else {
            format!("/home/{name}")
        };
        Ok(Placed {
            uid,
            gid,
            home,
            new: true,
        })
    }

    fn set_password(&mut self, account: &Account) -> Result<(), AccountError> {
        let name = account.username.as_str();
        let hash = match &account.password {
            Some(Password::Hashed(hash)) => hash.as_str(),
            Some(Password::Clear(_)) => return Err(AccountError::Clear(name.into())),
            None => "",
        };
        let field = match (hash, account.lock_passwd) {
            // No password opens nothing; an empty field would open to everyone.
            ("", _) => "!".to_string(),
            (hash, true) => format!("!{hash}"),
            (hash, false) => hash.to_string(),
        };
        // Day 0 asks for a new password at the first login.
        let day = if account.chpasswd_expire && !hash.is_empty() {
            0
        } else {
            DAY
        };
        put(
            &mut self.shadow,
            name,
            &format!("{name}:{field}:{day}:0:99999:7:::"),
        );
        Ok(())
    }

    fn join_group(&mut self, group: &str, name: &str) -> Result<(), AccountError> {
        let line = match fields(&self.group, group) {
            Some(fields) => {
                let mut members: Vec<&str> = fields
                    .get(3)
                    .unwrap_or(&"")
                    .split(',')
                    .filter(|member| !member.is_empty())
                    .collect();
                if !members.contains(&name) {
                    members.push(name);
                }
                let gid = fields.get(2).copied().unwrap_or("0");
                format!("{group}:x:{gid}:{}", members.join(","))
            }
            None => {
                let taken = numbers(&self.group, 2);
                let gid = (100..=SYSTEM_GID_LAST).rev().find(|gid| !taken.contains(gid));
                let gid = gid.ok_or_else(|| AccountError::Full(group.into()))?;
                format!("{group}:x:{gid}:{name}")
            }
        };
        put(&mut self.group, group, &line);
        Ok(())
    }

    /// Takes the day of the build out of the shadow file: packages stamp the accounts that they make.
    pub fn settle_days(&mut self) {
        let settle = |line: &str| {
            let mut fields: Vec<String> = line.split(':').map(String::from).collect();
            if let Some(day) = fields.get_mut(2)
                && day.parse::<u32>().is_ok_and(|day| day > DAY)
            {
                *day = DAY.to_string();
            }
            fields.join(":") + "\n"
        };
        self.shadow = self.shadow.lines().map(settle).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(fields: &str) -> Account {
        let text = format!("NAME x\nUSER {fields}\n");
        let formfile = crate::formfile::parse(&text).formfile.expect("a good USER");
        formfile.redacted(&[1; 32]).accounts.remove(0)
    }

    fn files() -> AccountFiles {
        AccountFiles {
            passwd: "root:x:0:0:root:/root:/bin/bash\nwww:x:1000:33::/var/www:/bin/sh\n".into(),
            shadow: "root:$6$x:20000:0:99999:7:::\n".into(),
            group: "root:x:0:\nsudo:x:27:\ndocker:x:999:\n".into(),
        }
    }

    #[test]
    fn an_account_is_made_as_useradd_would() {
        let mut files = files();
        let account = account("username:anna passwd:secret sudo:yes groups:docker,staff shell:/bin/sh");
        let placed = files.apply(&account).expect("there is room");
        assert_eq!(
            placed,
            Placed {
                uid: 1001,
                gid: 1001,
                home: "/home/anna".into(),
                new: true
            }
        );
        assert!(
            files
                .passwd
                .ends_with("anna:x:1001:1001:anna:/home/anna:/bin/sh\n")
        );
        assert!(files.shadow.contains("root:*:20089:"), "{}", files.shadow);
        assert!(files.shadow.contains("anna:$6$rounds=4096$"));
        assert!(
            files.shadow.contains(":0:0:99999:7:::"),
            "the password must be changed at first"
        );
        assert_eq!(
            files.group,
            "root:x:0:\nsudo:x:27:anna\ndocker:x:999:anna\nanna:x:1001:\nstaff:x:998:anna\n"
        );
        let before = files.clone();
        assert!(!files.apply(&account).expect("it is there").new);
        assert_eq!(files, before, "doing it twice changes nothing");
    }

    #[test]
    fn no_password_opens_nothing() {
        let mut files = files();
        files
            .apply(&account("username:bo disable_root:no"))
            .expect("there is room");
        assert!(files.shadow.contains("bo:!:20089:0:"), "{}", files.shadow);
        assert!(files.shadow.contains("root:$6$x:20000:"));
        files
            .apply(&account("username:cy passwd:a lock_passwd:on"))
            .expect("there is room");
        assert!(files.shadow.contains("cy:!$6$"));
    }

    #[test]
    fn the_day_of_the_build_leaves_no_trace() {
        let mut files = AccountFiles {
            shadow: "a:*:30000:0:\nb:!:0:0:\nc:*:19000:0:\n".into(),
            ..files()
        };
        files.settle_days();
        assert_eq!(files.shadow, "a:*:20089:0:\nb:!:0:0:\nc:*:19000:0:\n");
    }
}

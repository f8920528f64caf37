//! `.formignore`: which files of a context stay at home. One pattern a line, the last that fits decides.
//!
//! `*` and `?` stay inside of a name, `**` does not; a `/` at the end means directories only; a pattern with
//! another `/` is anchored at the context, one without fits at any depth; `!` takes back. What lies in an
//! ignored directory is ignored with it. `.git` and the Formfile are ignored unless taken back; the Formfile
//! always, because it travels on its own, without clear passwords.

/// Most patterns.
pub const PATTERNS_MAX: usize = 1000;
/// Most bytes of the file.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of one pattern: what fitting it costs grows with it.
pub const PATTERN_BYTES_MAX: usize = 256;

/// The patterns of one context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    keep: bool,
    directories_only: bool,
    anchored: bool,
    /// The pattern's names, split at `/`.
    names: Vec<String>,
}

/// A `.formignore` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// More patterns than a context needs.
    #[error(".formignore has more than {PATTERNS_MAX} patterns")]
    TooMany,
    /// One pattern is too long.
    #[error(".formignore line {0}: a pattern of more than {PATTERN_BYTES_MAX} bytes")]
    TooLong(usize),
}

impl Ignore {
    /// Reads the file's text; none is the empty text.
    pub fn parse(text: &str) -> Result<Ignore, IgnoreError> {
        let mut rules = vec![Rule::read(".git").expect("a plain name is a pattern")];
        for (index, line) in text.lines().enumerate() {
            if line.len() > PATTERN_BYTES_MAX {
                return Err(IgnoreError::TooLong(index + 1));
            }
            rules.extend(Rule::read(line.trim()));
            if rules.len() > PATTERNS_MAX {
                return Err(IgnoreError::TooMany);
            }
        }
        Ok(Ignore { rules })
    }

    /// Whether the file or directory at `path`, relative to the context, stays at home.
    pub fn ignores(&self, path: &str, is_directory: bool) -> bool {
        if path == "Formfile" {
            return true;
        }
        let names: Vec<&str> = path.split('/').collect();
        let last = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.fits(&names, is_directory));
        last.is_some_and(|rule| !rule.keep)
    }
}

impl Rule {
    fn read(line: &str) -> Option<Rule> {
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keep, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let directories_only = pattern.ends_with('/');
        let body = pattern.trim_end_matches('/');
        let anchored = body.contains('/');
        let names: Vec<String> = body
            .split('/')
            .filter(|name| !name.is_empty())
            .map(String::from)
            .collect();
        (!names.is_empty()).then_some(Rule {
            keep,
            directories_only,
            anchored,
            names,
        })
    }

    fn fits(&self, path: &[&str], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let from = if self.anchored { 0 } else { path.len() - 1 };
        fits_names(&self.names, &path[from..])
    }
}

fn fits_names(pattern: &[String], path: &[&str]) -> bool {
    // Row by row instead of by recursion: a hostile pattern costs length times length, never more.
    let mut row: Vec<bool> = vec![false; path.len() + 1];
    row[0] = true;
    for name in pattern {
        let any = name == "**";
        let mut next = vec![false; path.len() + 1];
        next[0] = any && row[0];
        for (at, part) in path.iter().enumerate() {
            next[at + 1] = if any {
                row[at + 1] || next[at]
            } else {
                row[at] && fits_name(name, part)
            };
        }
        row = next;
    }
    row[path.len()]
}

fn fits_name(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for symbol in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        next[0] = symbol == '*' && row[0];
        for (at, character) in name.iter().enumerate() {
            next[at + 1] = match symbol {
                '*' => row[at + 1] || next[at],
                '?' => row[at],
                plain => row[at] && plain == *character,
            };
        }
        row = next;
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::Ignore;

    fn check(patterns: &str, path: &str, expect: bool) {
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let ignore = Ignore::parse(patterns).expect("a good pattern");
        assert_eq!(
            ignore.ignores(path, is_directory),
            expect,
            "{patterns:?} on {path}"
        );
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        check("", "app.py", false);
        check("", ".git/", true);
        check("!.git", ".git/", false);
        check("!Formfile", "Formfile", true);
        check("*.pyc", "a/b/c.pyc", true);
        check("*.pyc\n!keep.pyc", "a/keep.pyc", false);
        check("# *.pyc", "c.pyc", false);
        check("build/", "build", false);
        check("build/", "a/build/", true);
        check("/build", "a/build", false);
        check("/build", "build", true);
        check("a/*.txt", "a/b.txt", true);
        check("a/*.txt", "a/b/c.txt", false);
        check("a/**/c.txt", "a/b/b/c.txt", true);
        check("a/**/c.txt", "a/c.txt", true);
        check("?.txt", "ab.txt", false);
        check("***a*b*c", "xxaxxbxxc", true);
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_a_long_one() {
        let pattern = "*a".repeat(super::PATTERN_BYTES_MAX / 2);
        check(&pattern, &format!("{}b", "a".repeat(250)), false);
        assert!(Ignore::parse(&"x\n".repeat(2000)).is_err());
        assert!(Ignore::parse(&"x".repeat(2000)).is_err());
    }
}

//! Contexts: what may leave a directory, and what a hostile archive may not do.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "host")]

use pack::formfile::{Formfile, parse};
use pack::io::context::{self, ContextError, archive, tree_digest, unpack};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn formfile(text: &str) -> Formfile {
    parse(text)
        .formfile
        .unwrap_or_else(|complaints| panic!("{complaints:?}"))
        .redacted(&[3; 32])
}

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Bench {
        let bench = Bench(tempfile::TempDir::new().unwrap());
        fs::create_dir(bench.dir()).unwrap();
        bench
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("dir")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn archive(&self, text: &str) -> Result<PathBuf, ContextError> {
        let path = self.0.path().join("context.tar");
        archive(&self.dir(), &formfile(text), &path).map(|_| path)
    }

    fn refusal(&self, text: &str) -> String {
        self.archive(text).unwrap_err().to_string()
    }

    /// All that is in the archive, by tar's own account.
    fn names(&self, text: &str) -> Vec<String> {
        let file = fs::File::open(self.archive(text).unwrap()).unwrap();
        let mut archive = tar::Archive::new(file);
        archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect()
    }
}

#[test]
fn an_archive_holds_what_is_copied_and_unpacks_to_the_same() {
    let bench = Bench::new();
    bench.write("app/main.py", "print()");
    bench.write("app/deep/er/x", "x");
    bench.write("other", "not copied");
    bench.write("Formfile", "NAME x");
    symlink("main.py", bench.dir().join("app/link")).unwrap();
    fs::set_permissions(bench.dir().join("app/main.py"), fs::Permissions::from_mode(0o700)).unwrap();
    let long = format!("app/{}/{}", "d".repeat(90), "f".repeat(120));
    bench.write(&long, "long");
    let text = "NAME x\nCOPY app /app\n";
    let names = bench.names(text);
    assert_eq!(names[..3], ["Formfile", "context", "context/app"]);
    assert!(
        names.contains(&format!("context/{long}")) && !names.contains(&"context/other".into()),
        "{names:?}"
    );
    let into = bench.0.path().join("out");
    let unpacked = unpack(&bench.archive(text).unwrap(), &into).unwrap();
    assert_eq!(unpacked.formfile, formfile(text));
    let read = |path: &str| fs::read_to_string(unpacked.root.join(path)).unwrap();
    assert_eq!(
        (read("app/main.py"), read("app/deep/er/x"), read(&long)),
        ("print()".into(), "x".into(), "long".into())
    );
    assert_eq!(
        fs::read_link(unpacked.root.join("app/link")).unwrap(),
        Path::new("main.py")
    );
    assert_eq!(
        fs::metadata(unpacked.root.join("app/main.py"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    assert!(!unpacked.root.join("other").exists());
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let bytes = |order: [&str; 3], mode: u32| {
        let bench = Bench::new();
        for name in order {
            bench.write(name, name);
            fs::set_permissions(bench.dir().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::read(bench.archive("NAME x\n").unwrap()).unwrap()
    };
    assert_eq!(bytes(["a", "b/c", "z"], 0o644), bytes(["z", "b/c", "a"], 0o600));
}

#[test]
fn without_copy_all_is_taken_but_git_the_formfile_and_what_is_ignored() {
    let bench = Bench::new();
    for path in ["a", "Formfile", ".git/config", "note.md", "keep.md", "cache/x"] {
        bench.write(path, "x");
    }
    bench.write(".formignore", "*.md\n!keep.md\ncache/\n");
    assert_eq!(
        bench.names("NAME x\n"),
        [
            "Formfile",
            "context",
            "context/.formignore",
            "context/a",
            "context/keep.md"
        ]
    );
    assert!(
        bench
            .refusal("NAME x\nCOPY note.md /\n")
            .contains(".formignore leaves it out")
    );
}

#[test]
fn nothing_outside_of_the_context_is_taken() {
    let bench = Bench::new();
    bench.write("a", "x");
    fs::write(bench.0.path().join("secret"), "secret").unwrap();
    assert!(parse("NAME x\nCOPY ../../etc/passwd /x\n").formfile.is_err());
    assert!(parse("NAME x\nCOPY /etc/passwd /x\n").formfile.is_err());
    // A Formfile that did not come from the parser is judged again.
    let mut forged = formfile("NAME x\nCOPY a /a\n");
    for from in ["../secret", "/etc/passwd", "a/../../secret"] {
        forged.steps = vec![pack::formfile::Step::Copy {
            from: from.into(),
            to: "/x".into(),
        }];
        let result = archive(&bench.dir(), &forged, &bench.0.path().join("t"));
        assert!(
            matches!(result, Err(ContextError::Outside { .. })),
            "{from}: {result:?}"
        );
    }
    symlink("/etc", bench.dir().join("etc")).unwrap();
    assert!(
        bench
            .refusal("NAME x\nCOPY etc/passwd /x\n")
            .contains("goes through a symlink")
    );
    assert!(bench.refusal("NAME x\nCOPY etc /x\n").contains("absolute path"));
    assert!(bench.refusal("NAME x\n").contains("absolute path"));
    fs::remove_file(bench.dir().join("etc")).unwrap();
    symlink("b/../../secret", bench.dir().join("up")).unwrap();
    assert!(bench.refusal("NAME x\n").contains("leaves the context"));
    fs::remove_file(bench.dir().join("up")).unwrap();
    assert!(
        bench
            .refusal("NAME x\nCOPY missing /x\n")
            .starts_with("COPY missing: there is no such file")
    );
    assert!(
        bench
            .refusal("NAME x\nCOPY a/b /x\n")
            .starts_with("COPY a/b: there is no such file")
    );
    let _listener = std::os::unix::net::UnixListener::bind(bench.dir().join("socket")).unwrap();
    assert!(bench.refusal("NAME x\n").contains("neither a file"));
}

#[test]
fn a_clear_password_never_leaves() {
    let bench = Bench::new();
    let formfile = parse("NAME x\nUSER username:a passwd:secret\n").formfile.unwrap();
    let result = archive(&bench.dir(), &formfile, &bench.0.path().join("t"));
    assert!(matches!(result, Err(ContextError::ClearPassword)));
    let path = bench.archive("NAME x\nUSER username:a passwd:secret\n").unwrap();
    assert!(!String::from_utf8_lossy(&fs::read(path).unwrap()).contains("secret"));
}

/// One entry of a tar made by hand.
fn entry(out: &mut Vec<u8>, path: &str, kind: tar::EntryType, link: &str, size: u64, body: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..path.len()].copy_from_slice(path.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// What comes of an archive with a good Formfile, a context, and then `rest`.
fn unpack_with(rest: impl FnOnce(&mut Vec<u8>)) -> String {
    use tar::EntryType as Kind;
    let folder = tempfile::TempDir::new().unwrap();
    let text = formfile("NAME x\n").canonical();
    let mut bytes = Vec::new();
    entry(
        &mut bytes,
        "Formfile",
        Kind::Regular,
        "",
        text.len() as u64,
        text.as_bytes(),
    );
    entry(&mut bytes, "context", Kind::Directory, "", 0, b"");
    rest(&mut bytes);
    bytes.resize(bytes.len() + 1024, 0);
    let path = folder.path().join("t");
    fs::write(&path, bytes).unwrap();
    let result = unpack(&path, &folder.path().join("out"));
    let floor: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(
        floor.len(),
        2,
        "something was written beside the context: {floor:?}"
    );
    result.map_or_else(|error| error.to_string(), |_| "unpacked".into())
}

#[test]
fn a_hostile_archive_is_refused() {
    use tar::EntryType as Kind;
    let one = |path: &str, kind: Kind, link: &str| {
        let (path, link) = (path.to_string(), link.to_string());
        unpack_with(move |out| entry(out, &path, kind, &link, 0, b""))
    };
    assert_eq!(unpack_with(|_| ()), "unpacked");
    assert_eq!(one("context/a", Kind::Regular, ""), "unpacked");
    assert_eq!(one("context/a", Kind::Symlink, "b"), "unpacked");
    for path in [
        "../a",
        "/a",
        "context/../a",
        "context/../../a",
        "context//a",
        "context/./a",
        "context/..",
    ] {
        assert!(one(path, Kind::Regular, "").contains("neither `..`"), "{path}");
    }
    assert!(one("a", Kind::Regular, "").contains("not part of the context"));
    assert!(one("context/a/b", Kind::Regular, "").contains("not part of the context"));
    for kind in [
        Kind::Link,
        Kind::Char,
        Kind::Block,
        Kind::Fifo,
        Kind::Continuous,
        Kind::GNUSparse,
        Kind::XHeader,
    ] {
        let said = one("context/a", kind, "");
        assert!(
            said.contains("neither a file") || said.contains("target"),
            "{kind:?}: {said}"
        );
    }
    assert!(one("context/a", Kind::Symlink, "/etc/passwd").contains("absolute"));
    assert!(one("context/a", Kind::Symlink, "../../x").contains("leaves the context"));
    assert!(one("context/a", Kind::Symlink, "").contains("empty"));
    // A symlink to a directory, and a file through it.
    let through = unpack_with(|out| {
        entry(out, "context/d", Kind::Directory, "", 0, b"");
        entry(out, "context/l", Kind::Symlink, "d", 0, b"");
        entry(out, "context/l/a", Kind::Regular, "", 0, b"");
    });
    assert!(through.contains("not part of the context"), "{through}");
    let twice = unpack_with(|out| {
        entry(out, "context/l", Kind::Symlink, "x", 0, b"");
        entry(out, "context/l", Kind::Regular, "", 0, b"");
    });
    assert!(twice.contains("twice"), "{twice}");
    let cut = unpack_with(|out| entry(out, "context/a", Kind::Regular, "", 5000, b"short"));
    assert!(
        cut.contains("ends in the middle") || cut.contains("no context archive"),
        "{cut}"
    );
    let bomb = unpack_with(|out| {
        entry(
            out,
            "context/a",
            Kind::Regular,
            "",
            context::CONTEXT_BYTES_MAX + 1,
            b"",
        )
    });
    assert!(bomb.contains("1 GiB"), "{bomb}");
    let name = unpack_with(|out| {
        entry(
            out,
            "././@LongLink",
            Kind::GNULongName,
            "",
            1 << 40,
            &[b'a'; 8192],
        )
    });
    assert!(name.contains("2048 bytes"), "{name}");
}

#[test]
fn the_formfile_of_an_archive_is_judged_anew() {
    let folder = tempfile::TempDir::new().unwrap();
    let with = |text: &[u8]| {
        let mut bytes = Vec::new();
        entry(
            &mut bytes,
            "Formfile",
            tar::EntryType::Regular,
            "",
            text.len() as u64,
            text,
        );
        entry(&mut bytes, "context", tar::EntryType::Directory, "", 0, b"");
        bytes.resize(bytes.len() + 1024, 0);
        let path = folder.path().join("t");
        fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let out = folder.path().join("out");
        let _ = fs::remove_dir_all(&out);
        unpack(&path, &out).map_or_else(|error| error.to_string(), |_| "unpacked".into())
    };
    assert_eq!(with(formfile("NAME x\n").canonical().as_bytes()), "unpacked");
    assert!(with(b"NAME x\n").contains("canonical spelling"));
    assert!(with(b"VCPU 0\n").contains("2 mistakes"));
    let clear = parse("NAME x\nUSER username:a passwd:p\n")
        .formfile
        .unwrap()
        .canonical();
    assert!(with(clear.as_bytes()).contains("in clear"));
    assert!(with(b"\xff").contains("1 mistakes"));
}

#[test]
fn a_tree_has_the_digest_of_its_content() {
    let bench = Bench::new();
    bench.write("a/x", "1");
    let digest = || tree_digest(&bench.dir(), "a").unwrap();
    let before = digest();
    assert_eq!(before, digest());
    assert_eq!(tree_digest(&bench.dir(), "b").unwrap(), None);
    bench.write("a/x", "2");
    assert_ne!(before, digest());
    bench.write("a/x", "1");
    assert_eq!(before, digest());
    fs::set_permissions(bench.dir().join("a/x"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(before, digest());
}

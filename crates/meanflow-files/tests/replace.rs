//! What holds of a file that is replaced, whatever fails.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use meanflow_files::layer::{Effect, Layer, Operation, under};
use meanflow_files::{Durability, remove_leftovers, replace};

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(
        path,
        Durability::Synced,
        |error| error,
        |file| file.write_all(bytes),
    )
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Fails one change, counted from 0.
#[derive(Debug)]
struct Fails {
    which: usize,
    seen: Vec<Operation>,
    effect: fn() -> Effect,
}

impl Layer for Fails {
    fn before(&mut self, operation: Operation) -> Effect {
        let place = self.seen.len();
        self.seen.push(operation);
        if place == self.which {
            (self.effect)()
        } else {
            Effect::Whole
        }
    }
}

fn with_failure(path: &Path, which: usize, effect: fn() -> Effect) -> (io::Result<()>, usize) {
    let layer = Rc::new(RefCell::new(Fails {
        which,
        seen: Vec::new(),
        effect,
    }));
    let result = under(layer.clone(), || write(path, b"new"));
    let seen = layer.borrow().seen.len();
    (result, seen)
}

#[test]
fn whatever_fails_the_old_file_stays_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let full = || Effect::Failed(ErrorKind::StorageFull.into());
    for which in 0.. {
        write(&path, b"old").unwrap();
        let (result, seen) = with_failure(&path, which, full);
        assert_eq!(names(folder.path()), ["a"]);
        let Err(error) = result else {
            // Create, write, sync, rename, sync the folder.
            assert_eq!((which, seen), (5, 5));
            break;
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let renamed = which == 4;
        let expected: &[u8] = if renamed { b"new" } else { b"old" };
        assert_eq!(fs::read(&path).unwrap(), expected);
    }
}

#[test]
fn interruptions_and_short_writes_are_gone_on_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for effect in [
        || Effect::Failed(ErrorKind::Interrupted.into()),
        || Effect::Short(1),
    ] {
        for which in 0..6 {
            write(&path, b"old").unwrap();
            with_failure(&path, which, effect).0.unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(names(folder.path()), ["a"]);
        }
    }
}

#[test]
fn only_our_own_leftovers_of_dead_processes_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    // Linux gives no process a number beyond 2²².
    let dead = 1 << 30;
    let running = format!(".a.{}-4.tmp", std::os::unix::process::parent_id());
    let kept = [
        ".gitignore",
        ".a.tmp",
        ".lock",
        ".notes.partial-x",
        "a.1-2.tmp",
        &running,
    ];
    let gone = [
        format!(".loss.svg.{dead}-4.tmp"),
        format!(".b.partial-{dead}"),
        format!(".a.{}-7.tmp", std::process::id()),
    ];
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    for name in kept.iter().copied().chain(gone.iter().map(String::as_str)) {
        fs::write(path(name), "").unwrap();
    }
    write(&path("b"), b"new").unwrap();
    assert!(path(&gone[0]).exists() && !path(&gone[1]).exists());
    fs::remove_file(path("b")).unwrap();
    remove_leftovers(folder.path()).unwrap();
    let mut kept = kept.map(str::to_owned);
    kept.sort();
    assert_eq!(names(folder.path()), kept);
    remove_leftovers(&path("no such folder")).unwrap();
}

//! A look at every picture of a collection: its size, and whether it can be decoded.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::decode::{self, Channels};
use crate::{Collection, DataError};

/// How far a look goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// The file is read, and of it the header.
    Header,
    /// The picture is decoded.
    Pixels,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Bytes of all encoded pictures that could be read.
    pub bytes: u64,
    /// `[height, width]` of the good pictures, with the number of them.
    pub sizes: BTreeMap<[usize; 2], usize>,
    /// The others in their order, each with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Survey {
    /// Looks at every picture, with a thread a core; `done` is told how many more were seen since it was told last.
    pub fn of(collection: &Collection, depth: Depth, done: impl Fn(usize) + Sync) -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (next, merged) = (AtomicUsize::new(0), Mutex::new(Seen::default()));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut seen = Seen::default();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= collection.len() {
                            break;
                        }
                        seen.look(collection, index, depth);
                        done(1);
                    }
                    let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                    merged.add(seen);
                });
            }
        });
        let merged = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
        let damaged = merged.damaged.into_iter();
        Self {
            bytes: merged.bytes,
            sizes: merged.sizes,
            damaged: damaged
                .map(|(index, reason)| (collection.path(index), reason))
                .collect(),
        }
    }
}

/// What one thread saw.
#[derive(Default)]
struct Seen {
    bytes: u64,
    sizes: BTreeMap<[usize; 2], usize>,
    damaged: BTreeMap<usize, String>,
}

impl Seen {
    fn look(&mut self, collection: &Collection, index: usize, depth: Depth) {
        match self.size(collection, index, depth) {
            Ok(size) => *self.sizes.entry(size).or_default() += 1,
            Err(error) => {
                self.damaged.insert(index, error.to_string());
            }
        }
    }

    fn size(
        &mut self,
        collection: &Collection,
        index: usize,
        depth: Depth,
    ) -> Result<[usize; 2], DataError> {
        let (path, bytes) = (collection.path(index), collection.read(index)?);
        self.bytes += bytes.len() as u64;
        if depth == Depth::Header {
            return decode::dimensions(&path, &bytes);
        }
        let [height, width, _] = decode::decode(&path, &bytes, Channels::Color)?.shape();
        Ok([height, width])
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        for (size, count) in other.sizes {
            *self.sizes.entry(size).or_default() += count;
        }
        self.damaged.extend(other.damaged);
    }
}

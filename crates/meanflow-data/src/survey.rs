//! A look at every picture of a collection: its size, and whether it can be decoded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::decode::{self, Background, Channels, PictureInfo, Reading, View};
use crate::{DataError, ImageArchive};

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
pub struct DatasetReport {
    /// Bytes of all encoded pictures that could be read.
    pub bytes: u64,
    /// `[height, width]` of the good pictures, with the number of them.
    pub sizes: BTreeMap<[usize; 2], usize>,
    /// What is special about some of the good pictures.
    pub kinds: Kinds,
    /// The others in their order, each with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

/// How many pictures are not plain: a network may see them otherwise than their owner does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Kinds {
    /// Pictures that can be transparent: they have an alpha channel, or a colour that stands for it.
    pub alpha: usize,
    /// Pictures that their metadata want turned or mirrored.
    pub turned: usize,
    /// Pictures of sixteen bits a sample, of which eight are kept.
    pub sixteen_bit: usize,
    /// Pictures in the colours of a printer.
    pub cmyk: usize,
}

impl Kinds {
    fn see(&mut self, info: &PictureInfo) {
        self.alpha += usize::from(info.has_alpha);
        self.turned += usize::from(info.is_turned);
        self.sixteen_bit += usize::from(info.is_sixteen_bit);
        self.cmyk += usize::from(info.is_cmyk);
    }

    fn add(&mut self, other: Self) {
        self.alpha += other.alpha;
        self.turned += other.turned;
        self.sixteen_bit += other.sixteen_bit;
        self.cmyk += other.cmyk;
    }
}

impl DatasetReport {
    /// Looks at every picture, with a thread a core; `done` is told how many more were seen since it was told last.
    pub fn of(collection: &ImageArchive, depth: Depth, done: impl Fn(usize) + Sync) -> Self {
        let look = |mut report: Self, index| {
            report.look(collection, index, depth);
            done(1);
            report
        };
        let indices = (0..collection.len()).into_par_iter();
        let parts = indices.fold(Self::default, look);
        parts.reduce(Self::default, Self::and)
    }

    fn look(&mut self, collection: &ImageArchive, index: usize, depth: Depth) {
        match self.info(collection, index, depth) {
            Ok(info) => {
                let size = [info.height, info.width];
                *self.sizes.entry(size).or_default() += 1;
                self.kinds.see(&info);
            }
            Err(error) => {
                let damaged = (collection.path(index), error.to_string());
                self.damaged.push(damaged);
            }
        }
    }

    fn info(
        &mut self,
        collection: &ImageArchive,
        index: usize,
        depth: Depth,
    ) -> Result<PictureInfo, DataError> {
        let path = collection.path(index);
        self.bytes += collection.size(index)?;
        if depth == Depth::Header
            && let Ok(info) = decode::info(&path, &collection.read_start(index)?)
        {
            return Ok(info);
        }
        // Cameras put large metadata before the header; and a refusal should be that of the whole file.
        let bytes = collection.read(index)?;
        let info = decode::info(&path, &bytes)?;
        if depth == Depth::Pixels {
            decode::decode(&path, &bytes, WHOLE)?;
        }
        Ok(info)
    }

    /// What was seen here, then there.
    fn and(mut self, other: Self) -> Self {
        self.bytes += other.bytes;
        for (size, count) in other.sizes {
            *self.sizes.entry(size).or_default() += count;
        }
        self.kinds.add(other.kinds);
        self.damaged.extend(other.damaged);
        self
    }
}

/// How a picture is decoded to see whether it can be: what shows behind its pixels is another question.
pub(crate) const WHOLE: Reading = Reading {
    channels: Channels::Color,
    view: View {
        background: Some(Background::KeepRgb),
        apply_orientation: false,
    },
};

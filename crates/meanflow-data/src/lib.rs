//! Data sets and picture files for MeanFlow, without libtorch.
//!
//! In: samples as plain numbers in model space, from any [`Dataset`]: a [`MemoryDataset`] in memory (the embedded [`digits`],
//! [`idx`] and [`cifar`] files, [`toy`] laws), plain or with [`augment`]ation, or [`latents`] on the disk; in an order
//! that a step number determines ([`EpochOrder`]). Out: pictures, contact sheets, NumPy archives,
//! densities and loss curves, every file whole or not at all.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use meanflow_data::{Dataset, EpochOrder, digits, grid};
//!
//! let data = digits::load()?;
//! assert_eq!((data.len(), data.shape(), data.classes()), (1797, &[1, 8, 8][..], 10));
//!
//! // Step 7 of the run with seed 0 sees these samples, today and after a crash.
//! let batch = NonZeroUsize::new(128).unwrap();
//! let indices = EpochOrder::new(NonZeroUsize::new(data.len()).unwrap(), batch, 0).batch_at(7);
//! let examples = data.examples(&indices);
//! assert_eq!((examples.values.len(), examples.labels.len()), (128 * 64, 128));
//!
//! let pictures = meanflow_data::Pictures::from_model(&examples.values, [1, 8, 8])?;
//! let sheet = grid::sheet(&pictures, &grid::GridStyle::legible(16, 8))?;
//! assert_eq!(sheet.shape(), [8 * 33 + 1, 16 * 33 + 1, 1]);
//! # let folder = std::env::temp_dir().join("meanflow-data-doctest.png");
//! # let path = folder.as_path();
//! sheet.write_png(path)?;
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), meanflow_data::DataError>(())
//! ```

mod atomic;
pub mod augment;
pub mod caption;
pub mod cifar;
pub mod collection;
pub mod color;
pub mod custom;
pub mod dataset;
pub mod decode;
pub mod density;
pub mod digits;
mod error;
mod file;
mod fingerprint;
pub mod grid;
pub mod idx;
pub mod latents;
pub mod memory_dataset;
pub mod npy;
mod npy_header;
pub mod npz;
mod open;
pub mod order;
pub mod pack;
pub mod picture;
mod picture_set;
mod prefetch;
pub mod renumber;
pub mod resize;
mod rows;
pub mod survey;
pub mod toy;

pub use atomic::{write_atomically, write_bytes};
pub use collection::{ImageArchive, Links};
pub use dataset::{Dataset, DatasetInfo};
pub use error::DataError;
pub use file::open_regular;
pub use memory_dataset::{Examples, MemoryDataset};
pub use open::{Opened, open};
pub use order::EpochOrder;
pub use picture::{Picture, Pictures};
pub use picture_set::{BadPictures, ImageDataset};
pub use prefetch::Prefetch;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

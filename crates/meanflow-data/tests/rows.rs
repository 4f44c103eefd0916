//! Some rows of a batch are those of the whole batch, whatever is random in it.

mod common;

use std::path::Path;

use common::write_array;
use meanflow_data::augment::Augmented;
use meanflow_data::decode::Channels;
use meanflow_data::latents::{Facts, Latents, write_facts};
use meanflow_data::npy::NpySlice;
use meanflow_data::picture::numbered;
use meanflow_data::renumber::Renumbered;
use meanflow_data::{
    BadPictures, Dataset, DatasetInfo, Examples, ImageArchive, ImageDataset, MemoryDataset, digits,
};

/// Seven samples, one of them twice.
const INDICES: [usize; 7] = [5, 0, 2, 5, 3, 1, 4];

/// What a data set says of its rows against what follows from the whole batch.
fn check(data: &dyn Dataset, name: &str) {
    for step in [0, 9] {
        let whole = data.batch(&INDICES, 3, step).unwrap();
        for rows in [&[0][..], &[1, 3, 5], &[6, 2], &[0, 1, 2, 3, 4, 5, 6], &[]] {
            let some = data.batch_rows(&INDICES, rows, 3, step).unwrap();
            assert_eq!(some, rows_of(&whole, rows), "{name} {step} {rows:?}");
        }
    }
}

fn rows_of(whole: &Examples, rows: &[usize]) -> Examples {
    fn pick<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
        let size = values.len() / INDICES.len();
        let row = |row: &usize| values[row * size..][..size].to_vec();
        rows.iter().flat_map(row).collect()
    }
    Examples {
        values: pick(&whole.values, rows),
        labels: pick(&whole.labels, rows),
        augment: whole.augment.as_ref().map(|told| pick(told, rows)),
    }
}

/// Latents with odd numbers of elements, so that no row begins at an even place of the noise.
fn latents(folder: &Path) -> Latents {
    let numbers: Vec<f32> = (0..6 * 6 * 5).map(|i| (i % 11) as f32 * 0.1).collect();
    for name in ["moments.npy", "moments_flip.npy"] {
        write_array(folder, name, &[6, 6, 1, 5], NpySlice::F32(&numbers));
    }
    let labels = NpySlice::I64(&[0, 1, 2, 0, 1, 2]);
    write_array(folder, "labels.npy", &[6], labels);
    let facts = Facts {
        vae: "test".to_owned(),
        scale: 0.5,
        shift: 0.0,
        vae_sha256: None,
    };
    write_facts(folder, &facts).unwrap();
    Latents::open(folder, 3, true).unwrap()
}

/// A data set that knows no better.
#[derive(Debug)]
struct Plain(MemoryDataset);

impl Dataset for Plain {
    fn info(&self) -> &DatasetInfo {
        self.0.info()
    }

    fn batch(
        &self,
        indices: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, meanflow_data::DataError> {
        self.0.batch(indices, seed, step)
    }
}

#[test]
fn rows_are_those_of_the_whole_batch() {
    let digits = || digits::load().unwrap();
    check(&digits(), "in memory");
    check(&Plain(digits()), "by the whole batch");
    for (flip, probability) in [(true, None), (false, Some(0.5)), (true, Some(0.9))] {
        let augmented = Augmented::new(digits(), flip, probability).unwrap();
        check(&augmented, "augmented");
    }
    let values = (0..6).map(|i| i as f32).collect();
    let gaps = MemoryDataset::from_values(values, vec![1], vec![4, 0, 4, 2, 0, 2], 5).unwrap();
    check(&Renumbered::new(Box::new(gaps)), "renumbered");
    let folder = tempfile::tempdir().unwrap();
    check(&latents(folder.path()), "latents");
}

#[test]
fn rows_of_encoded_pictures_are_decoded_alone() {
    let folder = tempfile::tempdir().unwrap();
    let digits = digits::load().unwrap();
    let pictures = digits.pictures(&[0, 1, 2, 3, 4, 5]).unwrap();
    let numbers = [0, 1, 2, 3, 4, 5];
    pictures.write_folders(folder.path(), &numbers).unwrap();
    let open = || ImageArchive::open_folder(folder.path()).unwrap();
    let set = |archive| ImageDataset::new(archive, 8, Channels::Grey, BadPictures::Refuse).unwrap();
    check(&set(open()), "decoded");
    // Rows 1 and 3 are samples 0 and 5: the file of another one is not read.
    let archive = open();
    std::fs::write(folder.path().join(numbered(2)), b"no picture").unwrap();
    let damaged = set(archive);
    assert!(damaged.batch(&INDICES, 0, 0).is_err());
    assert!(damaged.batch_rows(&INDICES, &[1, 3], 0, 0).is_ok());
}

//! This project's side of `benches/peers/loader.py`: a folder of pictures, decoded, cut, mirrored and put into batches.
//!
//! `loader FOLDER SIZE WORKERS` answers `ready`, and then every line of input with a line of JSON: pictures a second over one
//! epoch, from the first batch on.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use benches::protocol;
use meanflow_data::augment::Augmented;
use meanflow_data::decode::Channels;
use meanflow_data::{
    BadPictures, DataError, Dataset, EpochOrder, Examples, ImageArchive, ImageDataset, Prefetch,
};
use serde_json::json;

const BATCH: NonZeroUsize = NonZeroUsize::new(64).unwrap();

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, size, workers] = &arguments[..] else {
        return Err("expected FOLDER SIZE WORKERS".into());
    };
    let collection = ImageArchive::open_folder(Path::new(folder))?;
    let set = ImageDataset::new(
        collection,
        size.parse()?,
        Channels::Color,
        BadPictures::Refuse,
    )?;
    let data = Augmented::new(set, true, None)?;
    let len = NonZeroUsize::new(data.len()).ok_or("an empty folder")?;
    let steps = (len.get() / BATCH) as u64;
    let mut batches = prefetched(data, len, workers.parse()?)?;
    let mut epochs = 0_u64..;
    protocol::serve(|_| {
        let start = epochs.next().unwrap_or_default() * steps;
        let first = batches.take(start)?.labels.len();
        let begun = Instant::now();
        let (mut pictures, mut sum) = (0, 0.0);
        for step in 1..steps {
            let examples = batches.take(start + step)?;
            pictures += examples.labels.len();
            sum += f64::from(examples.values[0]);
        }
        let rate = pictures as f64 / begun.elapsed().as_secs_f64();
        Ok(json!({"rate": rate, "pictures": pictures + first, "sum": sum}))
    })?;
    Ok(())
}

/// The batches of an endless run, made by threads as training has them.
fn prefetched(
    data: Augmented,
    len: NonZeroUsize,
    workers: NonZeroUsize,
) -> std::io::Result<Prefetch<Result<Examples, DataError>>> {
    let order = Mutex::new(EpochOrder::new(len, BATCH, 0));
    Prefetch::new(workers, workers.saturating_add(1), move |step| {
        let indices = order.lock().expect("nothing panics").batch_at(step);
        data.batch(&indices, 0, step)
    })
}

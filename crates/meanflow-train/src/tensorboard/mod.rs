//! TensorBoard's event files, written beside the metrics: `tensorboard --logdir RUNS` shows losses, speed, histograms of ‖du/dt‖,
//! samples and the recipe.
//!
//! Every start of a run writes a file of its own, whose second event voids what earlier files say of the steps that are done again.

mod event;
mod histogram;
mod record;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meanflow_data::decode::dimensions;

use crate::config::TrainingConfig;
use crate::metrics::Record;
use crate::observer::{Event, Observer};
use event::{Content, Image, encoded};
use histogram::Histogram;
use record::framed;

/// An event file.
#[derive(Debug)]
struct EventFile {
    file: BufWriter<File>,
    flushed: Instant,
}

/// Events in memory are written after this time at the latest.
const PERIOD: Duration = Duration::from_secs(10);

impl EventFile {
    /// A new file in a folder, of a run that goes on after so many steps.
    fn create(folder: &Path, step: u64, recipe: &str) -> io::Result<Self> {
        let (seconds, process) = (now() as u64, std::process::id());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let name = format!("events.out.tfevents.{seconds}.{host}.{process}");
        let mut file = Self {
            file: BufWriter::new(File::create(folder.join(name))?),
            flushed: Instant::now(),
        };
        file.write(0, &Content::Version)?;
        if step > 0 {
            file.write(step + 1, &Content::Restart)?;
        }
        file.write(
            step,
            &Content::Text("recipe", &format!("```toml\n{recipe}\n```")),
        )?;
        file.file.flush()?;
        Ok(file)
    }

    fn write(&mut self, step: u64, content: &Content<'_>) -> io::Result<()> {
        self.file
            .write_all(&framed(&encoded(now(), step, content)))?;
        if self.flushed.elapsed() >= PERIOD {
            self.flushed = Instant::now();
            self.file.flush()?;
        }
        Ok(())
    }

    /// A picture that lies in a PNG file.
    fn write_png(&mut self, step: u64, name: &str, path: &Path) -> io::Result<()> {
        let png = fs::read(path)?;
        let [height, width] = dimensions(path, &png).map_err(io::Error::other)?;
        // The type of colour in the header: 0 is grey.
        let channels = if png.get(25) == Some(&0) { 1 } else { 3 };
        let image = Image {
            height,
            width,
            channels,
            png: &png,
        };
        self.write(step, &Content::Image(name, image))?;
        self.file.flush()
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// An observer that writes events and passes everything on to another.
pub(crate) struct Board<'a> {
    inner: &'a mut dyn Observer,
    /// None after a failure to write: a run does not end for its picture.
    file: Option<EventFile>,
    /// Every so many steps, and of the last one, the numbers are written.
    every: u64,
    last: u64,
    /// The last step that was noticed.
    step: u64,
}

impl<'a> Board<'a> {
    /// Begins a file in a run directory, after so many steps.
    pub(crate) fn begin(
        inner: &'a mut dyn Observer,
        root: &Path,
        step: u64,
        training: &TrainingConfig,
        recipe: &str,
    ) -> Self {
        let mut board = Self {
            inner,
            file: None,
            every: training.log_every.get(),
            last: training.steps.get(),
            step,
        };
        match EventFile::create(root, step, recipe) {
            Ok(file) => board.file = Some(file),
            Err(error) => board.give_up(&error),
        }
        board
    }

    fn give_up(&mut self, error: &io::Error) {
        self.file = None;
        let remark = format!("TensorBoard's events are not written from here on: {error}");
        self.inner.notice(Event::Remark(&remark));
    }

    fn record(&mut self, event: &Event<'_>) -> io::Result<()> {
        if let Event::Stepped(record) = event {
            self.step = record.step;
        }
        let (Some(file), step) = (&mut self.file, self.step) else {
            return Ok(());
        };
        let is_logged = step.is_multiple_of(self.every) || step == self.last;
        match event {
            Event::Stepped(record) if is_logged => {
                file.write(step, &Content::Scalars(&scalars(record)))
            }
            Event::DudtNorms(norms) if is_logged => match Histogram::of(norms) {
                Some(histogram) => {
                    file.write(step, &Content::Histogram("train/dudt_norm", &histogram))
                }
                None => Ok(()),
            },
            Event::Drawn(path) => file.write_png(step, "samples", path),
            Event::RolledBack { to, .. } => file.write(to + 1, &Content::Restart),
            Event::Saved(_) => file.file.flush(),
            _ => Ok(()),
        }
    }
}

impl Observer for Board<'_> {
    fn notice(&mut self, event: Event<'_>) {
        if let Err(error) = self.record(&event) {
            self.give_up(&error);
        }
        self.inner.notice(event);
    }
}

/// The numbers of a step under the names that TensorBoard groups them by.
fn scalars(record: &Record) -> Vec<(String, f64)> {
    let mut scalars = vec![
        ("train/v_loss".to_owned(), record.v_loss),
        ("train/loss".to_owned(), record.loss),
        ("train/grad_norm".to_owned(), record.grad_norm),
        ("train/lr".to_owned(), record.lr),
        (
            "speed/samples_per_second".to_owned(),
            record.samples_per_second,
        ),
        ("speed/wait_share".to_owned(), record.wait_share),
    ];
    let bins = record.v_loss_by_tr.iter().map(|(t, r, mean)| {
        let [t, r] = [t, r].map(|quarter| format!("{}-{}", 25 * quarter, 25 * (quarter + 1)));
        (format!("v_loss_by_tr/t_{t}_r_{r}_percent"), mean)
    });
    scalars.extend(bins);
    scalars
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use meanflow_data::Picture;

    use super::*;
    use crate::{Silent, TrainConfig};

    /// The contents of the frames of a file, whose check sums are those that this module writes.
    fn events(path: &Path) -> Vec<Vec<u8>> {
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while let Some((length, _)) = rest.split_first_chunk() {
            let length = u64::from_le_bytes(*length) as usize;
            let content = &rest[12..12 + length];
            let (frame, left) = rest.split_at(length + 16);
            assert_eq!(frame, framed(content));
            events.push(content.to_vec());
            rest = left;
        }
        events
    }

    fn files(root: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let is_ours = |path: &PathBuf| path.to_string_lossy().contains("events.out.tfevents.");
        let mut files: Vec<PathBuf> = entries.filter(is_ours).collect();
        files.sort();
        files
    }

    fn training() -> TrainingConfig {
        let text = include_str!("../../../../configs/digits.toml");
        let overrides = ["training.log_every=2", "training.steps=5"].map(str::to_owned);
        let config = TrainConfig::parse(Path::new("digits"), text, &overrides).unwrap();
        config.training
    }

    /// Whether some bytes stand in an event.
    fn holds(event: &[u8], bytes: &[u8]) -> bool {
        event.windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn a_file_has_the_logged_steps_the_pictures_and_the_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let (root, mut silent) = (folder.path(), Silent);
        let picture = root.join("samples.png");
        let pixels = Picture::new([2, 3, 1], vec![0, 50, 100, 150, 200, 250]).unwrap();
        pixels.write_png(&picture).unwrap();
        let mut board = Board::begin(&mut silent, root, 0, &training(), "seed = 7");
        for step in 1..=5 {
            board.notice(Event::Stepped(&Record::example(step)));
            board.notice(Event::DudtNorms(if step == 4 { &[1.0, 2.0] } else { &[] }));
        }
        board.notice(Event::Drawn(&picture));
        drop(board);
        let events = events(&files(root)[0]);
        // The version, the recipe, steps 2, 4 (with a histogram) and the last, and the picture.
        assert_eq!(events.len(), 7);
        assert!(holds(&events[0], b"brain.Event:2"));
        assert!(holds(&events[1], b"seed = 7"));
        let has = |event: usize, name: &[u8]| holds(&events[event], name);
        assert!([2, 3, 5].iter().all(|event| has(*event, b"train/v_loss")));
        assert!(has(4, b"train/dudt_norm"));
        assert!(has(6, &fs::read(&picture).unwrap()));
    }

    #[test]
    fn a_run_that_goes_on_voids_later_steps_and_one_that_cannot_write_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (root, mut silent) = (folder.path(), Silent);
        drop(Board::begin(&mut silent, root, 3, &training(), ""));
        // Step 4, and a session log that starts.
        assert_eq!(events(&files(root)[0])[1][9..], [16, 4, 58, 2, 8, 1]);
        let nowhere = root.join("nowhere");
        let mut board = Board::begin(&mut silent, &nowhere, 0, &training(), "");
        board.notice(Event::Stepped(&Record::example(2)));
        assert!(board.file.is_none());
    }
}

//! `metrics.jsonl`, one line a logged step, and the picture of it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use meanflow_figures::{LineChart, Scale, Series};
use serde::{Deserialize, Serialize};

use crate::{Bins, TrainError};

/// One logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Steps done, this one included.
    pub step: u64,
    /// The weighted loss that is minimised; close to 1 at weight power 1, whatever the network does.
    pub loss: f64,
    /// Mean of `‖u − v_t‖²` over the batch, summed over the dimensions of a sample: the curve to look at.
    pub v_loss: f64,
    /// The same by quarters of t and r.
    #[serde(default)]
    pub v_loss_by_tr: Bins,
    /// The learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Samples a second since the line before.
    pub samples_per_second: f64,
    /// Seconds of training until here, pauses left out.
    pub seconds: f64,
    /// The share of the time since the run began, or was gone on with, that steps waited for their samples.
    #[serde(default)]
    pub wait_share: f64,
}

/// The lines of a metrics file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What the lines say, in their order.
    pub records: Vec<Record>,
    /// The numbers, from 1, of whole lines that are no records: damaged ones.
    pub damaged_lines: Vec<usize>,
}

/// The open file, with what the picture of it needs.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    curve: Curve,
}

/// What was not as it was left when a metrics file was opened again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Bytes that the checkpoint counts and the file has not.
    pub missing_bytes: u64,
    /// The numbers, from 1, of lines that cannot be read.
    pub damaged_lines: Vec<usize>,
}

impl Losses {
    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.missing_bytes == 0 && self.damaged_lines.is_empty()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.missing_bytes > 0 {
            parts.push(format!("the last {} bytes are missing", self.missing_bytes));
        }
        if !self.damaged_lines.is_empty() {
            let numbers: Vec<String> = self.damaged_lines.iter().map(usize::to_string).collect();
            parts.push(format!("lines that cannot be read: {}", numbers.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

impl MetricsLog {
    /// Opens the file and forgets what comes after `bytes`: steps that a resumed run is going to do again. A file that
    /// is damaged or missing is no obstacle; what is lost is returned.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, bytes: u64) -> Result<(Self, Losses), TrainError> {
        let io = || TrainError::io("open", path);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(io())?;
        let there = bytes.min(file.metadata().map_err(io())?.len());
        file.set_len(there).map_err(io())?;
        let history = lines(&file).map_err(io())?;
        file.seek(SeekFrom::End(0)).map_err(io())?;
        let mut curve = Curve::default();
        for record in &history.records {
            curve.push(record);
        }
        let log = Self {
            path: path.to_owned(),
            file,
            bytes: there,
            curve,
        };
        let losses = Losses {
            missing_bytes: bytes - there,
            damaged_lines: history.damaged_lines,
        };
        Ok((log, losses))
    }

    /// Appends a line. After an error the file ends with the line before.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append(&mut self, record: &Record) -> Result<(), TrainError> {
        self.curve.push(record);
        let mut line = serde_json::to_string(record).expect("a record is made of numbers");
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // Half of a line would make the next one unreadable; the first error is the one worth reporting.
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(TrainError::io("write", &self.path)(error));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Makes the file anew where it was removed or replaced meanwhile; whether that was so.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn renew(&mut self) -> Result<bool, TrainError> {
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.metadata().ok();
        let named = fs::metadata(&self.path).ok();
        if named.is_some() && open.as_ref().map(identity) == named.as_ref().map(identity) {
            return Ok(false);
        }
        (self.file, self.bytes) = match Self::open(&self.path, u64::MAX) {
            Ok((log, _)) => (log.file, log.bytes),
            Err(error) => return Err(error),
        };
        Ok(true)
    }

    /// The `v_loss` over the steps until now.
    pub fn chart(&self, title: &str) -> LineChart {
        chart(title, &self.curve.records)
    }

    /// The length of the file, and the file, whose lines are not on the disk until it is synced.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn written(&self) -> Result<(u64, File), TrainError> {
        let file = self.file.try_clone();
        Ok((
            self.bytes,
            file.map_err(TrainError::io("open", &self.path))?,
        ))
    }

    /// Waits until all lines are on the disk; returns the length of the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> Result<u64, TrainError> {
        self.file
            .sync_all()
            .map_err(TrainError::io("sync", &self.path))?;
        Ok(self.bytes)
    }
}

/// Most records that a picture is drawn from.
const MOST_POINTS: usize = 8192;

/// Records at equal distances, at most [`MOST_POINTS`], so that memory does not grow with the run.
#[derive(Debug, Default)]
struct Curve {
    records: Vec<Record>,
    /// Every so many records one is kept, less one.
    passed_over: usize,
    seen: usize,
}

impl Curve {
    fn push(&mut self, record: &Record) {
        if self.seen.is_multiple_of(self.passed_over + 1) {
            self.records.push(*record);
        }
        self.seen += 1;
        if self.records.len() > MOST_POINTS {
            let mut index = 0;
            self.records.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.passed_over = 2 * self.passed_over + 1;
        }
    }
}

/// All records of a metrics file, and which lines are none. A last line that a killed process left unfinished, without
/// its line feed, is passed over.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> Result<History, TrainError> {
    let file = File::open(path).map_err(TrainError::io("read", path))?;
    lines(&file).map_err(TrainError::io("read", path))
}

/// The records as a table with commas: a line of names, then one a record. `v_loss_t2_r0` is the `v_loss` of rows with `t` in the
/// third quarter and `r` in the first; it is empty where there was no such row.
pub fn to_csv(records: &[Record]) -> String {
    let quarters = (0..4).flat_map(|t| (0..=t).map(move |r| (t, r)));
    let names = quarters.clone().map(|(t, r)| format!("v_loss_t{t}_r{r}"));
    let plain = "step,seconds,loss,v_loss,lr,grad_norm,samples_per_second,wait_share".to_owned();
    let mut text = std::iter::once(plain)
        .chain(names)
        .collect::<Vec<_>>()
        .join(",")
        + "\n";
    for record in records {
        let numbers = [
            record.seconds,
            record.loss,
            record.v_loss,
            record.lr,
            record.grad_norm,
            record.samples_per_second,
            record.wait_share,
        ];
        let bins = quarters.clone().map(|(t, r)| record.v_loss_by_tr.get(t, r));
        let fields = numbers.into_iter().map(Some).chain(bins);
        text += &record.step.to_string();
        for field in fields {
            text.push(',');
            text += &field.map_or_else(String::new, |number| number.to_string());
        }
        text.push('\n');
    }
    text
}

/// Longest line that can be a record.
const LONGEST_LINE: u64 = 1 << 16;

fn lines(file: &File) -> std::io::Result<History> {
    let mut reader = BufReader::new(file);
    let (mut history, mut line, mut number) = (History::default(), Vec::new(), 0);
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE);
        match limited.read_until(b'\n', &mut line) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        number += 1;
        match serde_json::from_slice(&line) {
            _ if line.last() != Some(&b'\n') && (line.len() as u64) < LONGEST_LINE => {
                return Ok(history);
            }
            Ok(record) => history.records.push(record),
            Err(_) => history.damaged_lines.push(number),
        }
    }
}

/// The `v_loss` over the steps: of all rows, and of those with both times in one quarter or as far apart as they can be.
pub fn chart(title: &str, records: &[Record]) -> LineChart {
    let series = |name: &str, value: &dyn Fn(&Record) -> Option<f64>| {
        let point = |record: &Record| Some((record.step as f64, value(record)?));
        let points: Vec<(f64, f64)> = records.iter().filter_map(point).collect();
        Series {
            name: name.to_owned(),
            smooth_over: points.len() / 40,
            points,
        }
    };
    let all = series("all rows", &|record| Some(record.v_loss));
    let parts = PARTS.map(|(name, t, r)| series(name, &|record| record.v_loss_by_tr.get(t, r)));
    let parts = parts.into_iter().filter(|part| !part.points.is_empty());
    LineChart {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: "v_loss, ‖u − v‖²".to_owned(),
        y_scale: Scale::Logarithmic,
        series: std::iter::once(all).chain(parts).collect(),
    }
}

/// Parts of (r, t) that a curve is drawn of: their names, and the quarters of t and r.
const PARTS: [(&str, usize, usize); 5] = [
    ("r, t < ¼", 0, 0),
    ("r, t in ¼–½", 1, 1),
    ("r, t in ½–¾", 2, 2),
    ("r, t > ¾", 3, 3),
    ("r < ¼, t > ¾", 3, 0),
];

#[cfg(test)]
impl Record {
    /// That of a step in which nothing is unusual.
    pub(crate) fn example(step: u64) -> Self {
        Self {
            step,
            loss: 0.1,
            v_loss: 2.0,
            v_loss_by_tr: Bins::default(),
            lr: 1e-3,
            grad_norm: 1.0,
            samples_per_second: 9.0,
            seconds: 0.3,
            wait_share: 0.25,
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn record(step: u64) -> Record {
        Record::example(step)
    }

    /// A log without a record, its path, and the folder that it is in.
    fn begun() -> (TempDir, PathBuf, MetricsLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let (log, _) = MetricsLog::open(&path, 0).unwrap();
        (folder, path, log)
    }

    #[test]
    fn lines_after_the_checkpoint_are_forgotten_on_resume() {
        let (_folder, path, mut log) = begun();
        log.append(&record(1)).unwrap();
        let bytes = log.sync().unwrap();
        log.append(&record(2)).unwrap();
        drop(log);
        let (mut log, losses) = MetricsLog::open(&path, bytes).unwrap();
        assert!(losses.is_empty());
        log.append(&record(3)).unwrap();
        assert_eq!(log.sync().unwrap(), fs::metadata(&path).unwrap().len());
        assert_eq!(read(&path).unwrap().records, [record(1), record(3)]);
    }

    #[test]
    fn only_an_unfinished_last_line_is_passed_over_in_silence() {
        let (_folder, path, mut log) = begun();
        log.append(&record(1)).unwrap();
        log.append(&record(2)).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(log.bytes - 5)
            .unwrap();
        let history = read(&path).unwrap();
        assert_eq!(
            (history.records, history.damaged_lines),
            (vec![record(1)], vec![])
        );
        assert!(log.chart("x").to_svg().contains("v_loss"));
    }

    #[test]
    fn damaged_lines_are_counted_and_end_nothing() {
        let (_folder, path, mut log) = begun();
        for step in 1..=4 {
            log.append(&record(step)).unwrap();
        }
        let bytes = log.sync().unwrap();
        let mut text = fs::read(&path).unwrap();
        // No UTF-8 in the first line, no JSON in the third.
        text[10] = 0xff;
        let third = text.split_inclusive(|byte| *byte == b'\n').take(2);
        let at = third.map(<[u8]>::len).sum::<usize>();
        text[at] = b'x';
        fs::write(&path, text).unwrap();
        let history = read(&path).unwrap();
        assert_eq!(history.records, [record(2), record(4)]);
        assert_eq!(history.damaged_lines, [1, 3]);
        let (_, losses) = MetricsLog::open(&path, bytes + 7).unwrap();
        assert_eq!(
            (losses.missing_bytes, losses.damaged_lines),
            (7, vec![1, 3])
        );
    }

    #[test]
    fn a_part_of_the_times_that_no_batch_had_has_no_curve() {
        let by_tr: Bins = serde_json::from_str(
            "[[null,null,null,null],[null,null,null,null],[null,null,null,null],[3.0,null,null,null]]",
        )
        .unwrap();
        let with = Record {
            v_loss_by_tr: by_tr,
            ..record(2)
        };
        let chart = chart("x", &[record(1), with]);
        let series = chart.series.iter();
        let series: Vec<_> = series
            .map(|one| (one.name.as_str(), &one.points[..]))
            .collect();
        assert_eq!(series[0], ("all rows", &[(1.0, 2.0), (2.0, 2.0)][..]));
        assert_eq!(series[1..], [("r < ¼, t > ¾", &[(2.0, 3.0)][..])]);
    }

    #[test]
    fn a_table_has_a_field_for_every_column() {
        let by_tr: Bins = serde_json::from_str(
            "[[null,null,null,null],[7.5,null,null,null],[null,null,null,null],[null,null,null,9.0]]",
        )
        .unwrap();
        let with = Record {
            v_loss_by_tr: by_tr,
            ..record(2)
        };
        let table = to_csv(&[record(1), with]);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split(',').collect())
            .collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        let field = |line: usize, name: &str| {
            lines[line][lines[0].iter().position(|known| *known == name).unwrap()]
        };
        assert_eq!((field(1, "step"), field(2, "step")), ("1", "2"));
        assert_eq!((field(1, "v_loss"), field(1, "lr")), ("2", "0.001"));
        assert_eq!(
            (field(1, "v_loss_t1_r0"), field(2, "v_loss_t1_r0")),
            ("", "7.5")
        );
        assert_eq!(field(2, "v_loss_t3_r3"), "9");
    }

    #[test]
    fn a_removed_file_is_made_anew() {
        let (_folder, path, mut log) = begun();
        log.append(&record(1)).unwrap();
        assert!(!log.renew().unwrap());
        fs::remove_file(&path).unwrap();
        assert!(log.renew().unwrap());
        log.append(&record(2)).unwrap();
        assert_eq!(read(&path).unwrap().records, [record(2)]);
        assert_eq!(log.sync().unwrap(), fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_long_curve_stays_small_and_even() {
        let mut curve = Curve::default();
        for step in 0..100_000 {
            curve.push(&record(step));
        }
        assert!(curve.records.len() <= MOST_POINTS);
        let distance = curve.passed_over as u64 + 1;
        let steps: Vec<u64> = curve.records.iter().map(|record| record.step).collect();
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] == distance));
    }
}

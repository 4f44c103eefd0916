//! `metrics.jsonl`, one line a logged step, and the picture of it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use meanflow_data::plot::{LineChart, Scale, Series};
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
    pub unweighted: f64,
    /// The same by quarters of t and r.
    #[serde(default)]
    pub unweighted_by_t_r: Bins,
    /// The learning rate of the step.
    pub rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Samples a second since the line before.
    pub images_per_second: f64,
    /// Seconds of training until here, pauses left out.
    pub seconds: f64,
    /// The share of the time since the run began, or was gone on with, that steps waited for their samples.
    #[serde(default)]
    pub wait_share: f64,
}

/// The open file.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl MetricsLog {
    /// Opens the file and forgets what comes after `bytes`: steps that a resumed run is going to do again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, TrainError> {
        let io = || TrainError::io("open", path);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(io())?;
        let bytes = bytes.min(file.metadata().map_err(io())?.len());
        file.set_len(bytes).map_err(io())?;
        file.seek(SeekFrom::End(0)).map_err(io())?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append(&mut self, record: &Record) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).expect("a record is made of numbers");
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(TrainError::io("write", &self.path))?;
        self.bytes += line.len() as u64;
        Ok(())
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

/// All whole lines of a metrics file; a last line that a killed process left unfinished is passed over.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> Result<Vec<Record>, TrainError> {
    let text = fs::read_to_string(path).map_err(TrainError::io("read", path))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Both losses over the steps.
pub fn chart(title: &str, records: &[Record]) -> LineChart {
    let series = |name: &str, value: fn(&Record) -> f64| Series {
        name: name.to_owned(),
        points: records
            .iter()
            .map(|record| (record.step as f64, value(record)))
            .collect(),
        smooth_over: records.len() / 40,
    };
    LineChart {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: "loss".to_owned(),
        y_scale: Scale::Logarithmic,
        series: vec![
            series("unweighted ‖u − v‖²", |r| r.unweighted),
            series("weighted loss", |r| r.loss),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> Record {
        Record {
            step,
            loss: 0.1,
            unweighted: 2.0,
            unweighted_by_t_r: Bins::default(),
            rate: 1e-3,
            gradient_norm: 1.0,
            images_per_second: 9.0,
            seconds: 0.3,
            wait_share: 0.25,
        }
    }

    #[test]
    fn lines_after_the_checkpoint_are_forgotten_on_resume() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        log.append(&record(1)).unwrap();
        let bytes = log.sync().unwrap();
        log.append(&record(2)).unwrap();
        drop(log);
        let mut log = MetricsLog::open(&path, bytes).unwrap();
        log.append(&record(3)).unwrap();
        assert_eq!(log.sync().unwrap(), fs::metadata(&path).unwrap().len());
        assert_eq!(read(&path).unwrap(), [record(1), record(3)]);
    }

    #[test]
    fn an_unfinished_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        log.append(&record(1)).unwrap();
        log.append(&record(2)).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(log.bytes - 5)
            .unwrap();
        assert_eq!(read(&path).unwrap(), [record(1)]);
        assert!(
            chart("x", &read(&path).unwrap())
                .to_svg()
                .contains("weighted loss")
        );
    }
}

//! The report: `report.json`, and `report.md`, which a function makes of it.

use super::{Kit, Phase};
use crate::files;
use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a phase stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Status {
    /// Not begun.
    Waiting,
    /// Begun and not ended: in a report that stays so, the whole run was cut off here.
    Running,
    /// Ended well.
    Done,
    /// Ended by its time limit.
    CutOff,
    /// Not done, with the reason.
    Skipped(String),
    /// Ended badly, with the reason.
    Failed(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Running => f.write_str("running"),
            Self::Done => f.write_str("done"),
            Self::CutOff => f.write_str("cut off at its time limit"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
            Self::Failed(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One phase with what it found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    pub(super) phase: Phase,
    pub(super) status: Status,
    /// Wall time.
    pub(super) seconds: f64,
    /// The time that it had.
    pub(super) limit_seconds: f64,
    /// Results, in order.
    pub(super) rows: Vec<Value>,
    /// Sentences about them.
    pub(super) remarks: Vec<String>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// What the kit was built of: `kit.json`.
    pub(super) kit: Value,
    pub(super) device: String,
    pub(super) minutes: f64,
    /// Seconds since 1970.
    pub(super) started: u64,
    pub(super) phases: Vec<Section>,
    #[serde(skip)]
    out: PathBuf,
    #[serde(skip)]
    current: usize,
    /// The text of `report.md`.
    #[serde(skip)]
    page: fn(&Self) -> String,
}

impl Report {
    /// A report of phases that have not begun, written.
    pub(super) fn new(kit: &Kit, phases: &[Phase], page: fn(&Self) -> String) -> Result<Self> {
        let section = |phase: &Phase| Section {
            phase: *phase,
            status: Status::Waiting,
            seconds: 0.0,
            limit_seconds: 0.0,
            rows: Vec::new(),
            remarks: Vec::new(),
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let about = fs::read(kit.folder.join("kit.json")).ok();
        let report = Self {
            kit: about
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default(),
            device: kit.device.clone(),
            minutes: kit.minutes,
            started: since.map_or(0, |since| since.as_secs()),
            phases: phases.iter().map(section).collect(),
            out: kit.out.clone(),
            current: 0,
            page,
        };
        report.write()?;
        Ok(report)
    }

    /// The phase of this number begins, with so much time.
    pub(super) fn begin(&mut self, phase: usize, limit: Duration) -> Result<()> {
        self.current = phase;
        self.change(|section| {
            section.status = Status::Running;
            section.limit_seconds = limit.as_secs_f64();
        })
    }

    /// The phase that began last has ended.
    pub(super) fn end(&mut self, status: Status, took: Duration) -> Result<()> {
        self.change(|section| {
            section.status = status;
            section.seconds = took.as_secs_f64();
        })
    }

    /// A result of the phase that began last.
    pub(super) fn row(&mut self, row: Value) -> Result<()> {
        self.change(|section| section.rows.push(row))
    }

    /// More values of the last result of the phase that began last, or of a new one.
    pub(super) fn extend_last_row(&mut self, more: Value) -> Result<()> {
        self.change(|section| match (section.rows.last_mut(), more) {
            (Some(Value::Object(row)), Value::Object(more)) => row.extend(more),
            (_, more) => section.rows.push(more),
        })
    }

    /// A sentence about its results.
    pub(super) fn remark(&mut self, remark: impl Into<String>) -> Result<()> {
        self.change(|section| section.remarks.push(remark.into()))
    }

    /// The results so far of the phase that began last.
    pub(super) fn rows(&self) -> &[Value] {
        &self.phases[self.current].rows
    }

    /// Whether no phase failed, and correctness, if wanted, was seen to its end.
    pub(super) fn is_well(&self) -> bool {
        self.phases.iter().all(|section| match section.status {
            Status::Failed(_) => false,
            Status::CutOff => section.phase != Phase::Correctness,
            _ => true,
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Section)) -> Result<()> {
        change(&mut self.phases[self.current]);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        files::write(&self.out.join("report.json"), json)?;
        files::write(&self.out.join("report.md"), (self.page)(self))
    }
}

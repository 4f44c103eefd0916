//! The report: `report.json`, and `report.md`, which a function makes of it.

use super::{Kit, Phase};
use crate::files;
use anyhow::{Context, Result};
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

    /// A phase begins, with so much time.
    pub(super) fn begin(&mut self, phase: Phase, limit: Duration) -> Result<()> {
        let found = self.phases.iter().position(|one| one.phase == phase);
        self.current = found.context("the phase is in the report")?;
        let section = self.section();
        section.status = Status::Running;
        section.limit_seconds = limit.as_secs_f64();
        self.write()
    }

    /// The phase that began last has ended.
    pub(super) fn end(&mut self, status: Status, took: Duration) -> Result<()> {
        let section = self.section();
        section.status = status;
        section.seconds = took.as_secs_f64();
        self.write()
    }

    /// A result of the phase that began last.
    pub(super) fn row(&mut self, row: Value) -> Result<()> {
        self.section().rows.push(row);
        self.write()
    }

    /// More values of the last result of the phase that began last, or of a new one.
    pub(super) fn extend_last_row(&mut self, more: &Value) -> Result<()> {
        let rows = &mut self.section().rows;
        match (
            rows.last_mut().and_then(Value::as_object_mut),
            more.as_object(),
        ) {
            (Some(row), Some(more)) => row.extend(more.clone()),
            _ => rows.push(more.clone()),
        }
        self.write()
    }

    /// A sentence about its results.
    pub(super) fn remark(&mut self, remark: String) -> Result<()> {
        self.section().remarks.push(remark);
        self.write()
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

    fn section(&mut self) -> &mut Section {
        &mut self.phases[self.current]
    }

    fn write(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        files::write(&self.out.join("report.json"), json)?;
        files::write(&self.out.join("report.md"), (self.page)(self))
    }
}

//! The report for people, in Markdown.

use super::Phase;
use super::report::{Report, Section, Status};
use serde_json::Value;
use std::fmt::Write as _;

/// A column: the key of a row, and its heading.
type Column = (&'static str, &'static str);

/// The columns of every phase.
const COLUMNS: [(Phase, &[Column]); 8] = [
    (Phase::Machine, &[("fact", ""), ("value", "")]),
    (
        Phase::Correctness,
        &[
            ("name", "check"),
            ("verdict", "verdict"),
            ("error", "error"),
            ("tolerance", "allowed"),
            ("detail", "worst tensor, or reason"),
        ],
    ),
    (
        Phase::Digits,
        &[
            ("steps", "steps"),
            ("seconds", "seconds"),
            ("ms_per_step", "ms a step, in the second half"),
            ("class_accuracy", "class accuracy"),
            ("samples", "of samples"),
            ("samples_per_second", "samples a second"),
        ],
    ),
    (
        Phase::Steps,
        &[
            ("size", "size"),
            ("rows", "batch"),
            ("step", "step"),
            ("precision", "precision"),
            ("mode", "mode"),
            ("ms", "ms"),
            ("samples_per_second", "samples a second"),
            ("peak_mib", "peak MiB"),
            ("tflops", "Tflop/s"),
            ("share", "share of the product"),
            ("error", "error"),
        ],
    ),
    (
        Phase::Rivals,
        &[
            ("size", "size"),
            ("guidance", "guidance"),
            ("precision", "precision"),
            ("variant", "variant"),
            ("ms", "median ms"),
            ("times_ours", "÷ ours"),
            ("peak_mib", "peak MiB"),
            ("rounds", "rounds"),
            ("start_seconds", "start, with compiling, s"),
            ("apart", "apart in the proof"),
        ],
    ),
    (
        Phase::Sampling,
        &[
            ("size", "size"),
            ("what", ""),
            ("ms", "median ms"),
            ("samples_per_second", "samples a second"),
        ],
    ),
    (
        Phase::Profile,
        &[
            ("mode", "mode"),
            ("kind", "kind"),
            ("name", "name"),
            ("calls", "calls"),
            ("ms", "ms"),
            ("share", "share of the step"),
        ],
    ),
    (
        Phase::Group,
        &[
            ("what", ""),
            ("mode", "mode"),
            ("verdict", "verdict"),
            ("ms", "ms"),
            ("detail", "reason"),
        ],
    ),
];

/// The whole page.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "# GPU kit: {}\n\nKit {}, on {}, {} minutes.\n\n",
        summary(report),
        report.kit["commit"].as_str().unwrap_or("of unknown origin"),
        report.device,
        report.minutes
    );
    text += "| phase | | status | s | limit |\n|---|---|---|---|---|\n";
    for section in &report.phases {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.1} | {:.0} |",
            section.phase.letter(),
            section.phase.name(),
            cell(&section.status.to_string()),
            section.seconds,
            section.limit_seconds
        );
    }
    for section in &report.phases {
        if !section.rows.is_empty() || !section.remarks.is_empty() {
            text += &chapter(section);
        }
    }
    text
}

fn summary(report: &Report) -> &'static str {
    let unfinished = report
        .phases
        .iter()
        .any(|section| matches!(section.status, Status::Waiting | Status::Running));
    match (report.is_well(), unfinished) {
        (false, _) => "something FAILED",
        (true, true) => "not finished",
        (true, false) => "all is well",
    }
}

fn chapter(section: &Section) -> String {
    let used = |(key, _): &&Column| {
        let value = |row: &Value| row.get(key).is_some_and(|value| !value.is_null());
        section.rows.iter().any(value)
    };
    let of_phase = COLUMNS.iter().filter(|(phase, _)| *phase == section.phase);
    let columns: Vec<&Column> = of_phase.flat_map(|(_, all)| *all).filter(used).collect();
    let mut text = format!(
        "\n## {} {}\n\n",
        section.phase.letter(),
        section.phase.name()
    );
    if !columns.is_empty() {
        let headings: Vec<&str> = columns.iter().map(|(_, heading)| *heading).collect();
        let _ = writeln!(text, "| {} |", headings.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(columns.len()));
    }
    for row in &section.rows {
        let cells: Vec<String> = columns.iter().map(|(key, _)| shown(&row[key])).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for remark in &section.remarks {
        let _ = writeln!(text, "\n{remark}");
    }
    text
}

/// A value in a cell: numbers with four digits.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or(String::new(), digits),
        other => cell(&other.to_string()),
    }
}

fn digits(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let decimals = 3 - number.abs().log10().floor() as i64;
    match decimals {
        0.. if decimals <= 6 => format!("{number:.*}", decimals as usize),
        decimals if decimals > 6 => format!("{number:.1e}"),
        _ => format!("{number:.0}"),
    }
}

/// Text that does not end a cell or a row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        for (number, text) in [
            (0.0, "0"),
            (12345.6, "12346"),
            (12.3456, "12.35"),
            (0.98765, "0.9877"),
            (2.345e-7, "2.3e-7"),
        ] {
            assert_eq!(digits(number), text);
        }
    }

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(shown(&Value::String("a|b\nc".to_owned())), "a\\|b c");
    }
}

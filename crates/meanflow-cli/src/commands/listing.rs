//! Lists of what data hold, cut where they get long.

use crate::output::note;

/// Most classes and sizes that are listed for people.
pub(super) const LINES: usize = 20;

/// How many lines are left out.
pub(super) fn rest(lines: usize) -> String {
    let more = lines.saturating_sub(LINES);
    if more == 0 {
        return String::new();
    }
    format!("  … and {more} more\n")
}

/// Tells what a person should know of how data were read.
pub(super) fn say_remarks(remarks: &[String]) {
    for remark in remarks {
        note(format_args!("note: {remark}"));
    }
}

//! The values of a report for a terminal, in at most 80 columns.

use std::collections::BTreeSet;

use meanflow_eval::{Estimate, MetricId};

use super::report::Report;
use super::samplers::SamplerReport;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// A row for each metric, a column for each sampler; samplers that do not fit beside the others stand below. Then what could not be
/// computed, and what a reader has to know.
pub(super) fn table(report: &Report) -> String {
    let mut blocks = Vec::new();
    let heads = row_heads(report);
    let first = heads.iter().map(|(_, head)| width(head)).max().unwrap_or(0);
    let mut rest = &report.samplers[..];
    while !rest.is_empty() {
        let mut count = rest.len();
        while count > 1 && block_width(first, &columns(&heads, &rest[..count])) > WIDTH {
            count -= 1;
        }
        blocks.push(block(&heads, first, &columns(&heads, &rest[..count])));
        rest = &rest[count..];
    }
    let mut text = blocks.join("\n\n");
    for omitted in &report.omitted {
        text += &format!("\nnot computed: {}: {}", omitted.metric, omitted.reason);
    }
    for note in &report.notes {
        text += &format!("\nnote: {note}");
    }
    text
}

type Head = (Option<MetricId>, String);

/// The number of evaluations, and every metric that some sampler has.
fn row_heads(report: &Report) -> Vec<Head> {
    let ids: BTreeSet<MetricId> = report
        .samplers
        .iter()
        .flat_map(|sampler| sampler.metrics.values.keys().copied())
        .collect();
    let features = report
        .samplers
        .first()
        .map(|sampler| &sampler.metrics.features);
    let named = ids
        .into_iter()
        .filter_map(|id| Some((Some(id), id.key(features?))));
    std::iter::once((None, "NFE".to_owned()))
        .chain(named)
        .collect()
}

/// The texts of every sampler, its name first.
fn columns(heads: &[Head], samplers: &[SamplerReport]) -> Vec<Vec<String>> {
    let cell = |sampler: &SamplerReport, id: Option<MetricId>| match id {
        None => nfe(sampler),
        Some(id) => sampler
            .metrics
            .values
            .get(&id)
            .map_or("–".to_owned(), shown),
    };
    let column = |sampler: &SamplerReport| {
        let cells = heads.iter().map(|(id, _)| cell(sampler, *id));
        std::iter::once(sampler.name.clone()).chain(cells).collect()
    };
    samplers.iter().map(column).collect()
}

fn block_width(first: usize, columns: &[Vec<String>]) -> usize {
    let widths = columns.iter().map(|column| 2 + column_width(column));
    first + widths.sum::<usize>()
}

fn column_width(column: &[String]) -> usize {
    column.iter().map(|cell| width(cell)).max().unwrap_or(0)
}

fn block(heads: &[Head], first: usize, columns: &[Vec<String>]) -> String {
    let names = std::iter::once("").chain(heads.iter().map(|(_, head)| &**head));
    let lines = names.enumerate().map(|(row, head)| {
        let mut line = format!("{head:<first$}");
        for column in columns {
            let (cell, wide) = (&column[row], column_width(column));
            line += &format!("  {cell:>wide$}");
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Network evaluations of one sample.
pub(super) fn nfe(sampler: &SamplerReport) -> String {
    match sampler.nfe {
        None => "–".to_owned(),
        Some(nfe) if nfe.fract() == 0.0 => format!("{nfe:.0}"),
        Some(nfe) => format!("{nfe:.1}"),
    }
}

/// `18.8±1.3`.
pub(super) fn shown(estimate: &Estimate) -> String {
    let decimals = match estimate.mean.abs() {
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        size if size >= 1.0 => 3,
        _ => 4,
    };
    let mean = estimate.mean;
    if mean != 0.0 && mean.abs() < 0.001 {
        let half = estimate.half_width();
        return half.map_or(format!("{mean:.1e}"), |half| {
            format!("{mean:.1e}±{half:.0e}")
        });
    }
    let half = estimate.half_width();
    half.map_or(format!("{mean:.decimals$}"), |half| {
        format!("{mean:.decimals$}±{half:.decimals$}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_digits() {
        let estimate = |values: &[f64]| shown(&Estimate::of(values.to_vec()));
        assert_eq!(estimate(&[1.0, 2.0, 3.0]), "2.000±2.484");
        assert_eq!(estimate(&[0.9614]), "0.9614");
        assert_eq!(estimate(&[268.54]), "268.5");
        assert_eq!(estimate(&[0.000_12]), "1.2e-4");
        assert_eq!(estimate(&[0.0]), "0.0000");
    }
}

//! The names that a parameter has had in files of `AutoencoderKL`.

use std::collections::BTreeSet;

/// Names of the attention, now and in files of diffusers before 0.17.
const ATTENTION: [(&str, &str); 4] = [
    (".to_q.", ".query."),
    (".to_k.", ".key."),
    (".to_v.", ".value."),
    (".to_out.0.", ".proj_attn."),
];

/// The name of our parameter in a file with these names: the older one where only that is there.
///
/// Only names have changed: these weights are `[C, C]` under both.
pub(super) fn in_file(ours: &str, names: &BTreeSet<&str>) -> String {
    let older = ATTENTION
        .iter()
        .find(|(now, _)| ours.contains(now))
        .map(|(now, before)| ours.replace(now, before));
    match older {
        Some(older) if !names.contains(ours) && names.contains(older.as_str()) => older,
        _ => ours.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_name_counts_where_the_newer_is_missing() {
        let weight = "encoder.mid_block.attentions.0.to_out.0.weight";
        let older = "encoder.mid_block.attentions.0.proj_attn.weight";
        assert_eq!(in_file(weight, &[older].into()), older);
        assert_eq!(in_file(weight, &[older, weight].into()), weight);
        assert_eq!(in_file(weight, &BTreeSet::new()), weight);
    }
}

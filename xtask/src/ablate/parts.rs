//! What is varied: the parts of Table 1 and Table 5 of Geng et al. 2025, as changes to one recipe.

use anyhow::{Result, bail};

/// A question with its answers.
pub(super) struct Part {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its title in the document.
    pub title: &'static str,
    /// What the rows differ in.
    pub column: &'static str,
    /// The rows, in the paper's order.
    pub rows: &'static [Row],
}

/// A variant in its part.
pub(super) struct Row {
    /// What is written in the table.
    pub label: &'static str,
    /// The run that it stands for; parts share runs.
    pub variant: Variant,
    /// The paper's FID at one step: DiT-B/4 on ImageNet 256×256, 80 epochs.
    pub paper: f64,
}

/// A training of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Variant {
    /// The name of its folder.
    pub name: &'static str,
    /// Changes to the recipe.
    pub set: &'static [&'static str],
    /// `[dr, dt]` of the direction, where it is not the right one, (v, 0, 1).
    pub wrong_direction: Option<[f64; 2]>,
}

/// Guidance at all times, as a change to the recipe.
macro_rules! guidance {
    ($omega:literal, $kappa:literal) => {
        concat!(
            "guidance={ omega = ",
            $omega,
            ", kappa = ",
            $kappa,
            ", interval = [0.0, 1.0] }"
        )
    };
}

/// The recipe as it is.
pub(super) const BASE: Variant = Variant {
    name: "base",
    set: &[],
    wrong_direction: None,
};

const OMEGA_2: Variant = set("omega-2", &[guidance!("2.0", "0.0")]);

/// All parts.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "jump-rows",
        title: "Share of rows with r < t",
        column: "share",
        rows: &[
            row(
                "0 %",
                set("jump-rows-0", &["times.mean_flow_ratio.count=0.0"]),
                328.91,
            ),
            row(
                "25 %",
                set("jump-rows-25", &["times.mean_flow_ratio.count=0.25"]),
                61.06,
            ),
            row("50 %", BASE, 63.14),
            row(
                "100 %",
                set("jump-rows-100", &["times.mean_flow_ratio.count=1.0"]),
                67.32,
            ),
        ],
    },
    Part {
        name: "tangent",
        title: "Tangent of (z, r, t)",
        column: "tangent",
        rows: &[
            row("(v, 0, 1)", BASE, 61.06),
            row("(v, 0, 0)", wrong("tangent-v00", [0.0, 0.0]), 268.06),
            row("(v, 1, 0)", wrong("tangent-v10", [1.0, 0.0]), 329.22),
            row("(v, 1, 1)", wrong("tangent-v11", [1.0, 1.0]), 137.96),
        ],
    },
    Part {
        name: "embedding",
        title: "Times that the network sees",
        column: "times",
        rows: &[
            row(
                "(t, r)",
                set("embedding-tr", &["network.embedding=tr"]),
                61.75,
            ),
            row("(t, t − r)", BASE, 61.06),
            row(
                "(t, r, t − r)",
                set("embedding-trh", &["network.embedding=trh"]),
                63.98,
            ),
            row("t − r", set("embedding-h", &["network.embedding=h"]), 63.13),
        ],
    },
    Part {
        name: "times",
        title: "Law of (r, t)",
        column: "law",
        rows: &[
            row(
                "uniform",
                set("times-uniform", &["times.t={ kind = \"uniform\" }"]),
                65.90,
            ),
            row(
                "lognorm(−0.2, 1.0)",
                set("times-02-10", &["times.t.mean=-0.2"]),
                63.83,
            ),
            row(
                "lognorm(−0.2, 1.2)",
                set("times-02-12", &["times.t.mean=-0.2", "times.t.std=1.2"]),
                64.72,
            ),
            row("lognorm(−0.4, 1.0)", BASE, 61.06),
            row(
                "lognorm(−0.4, 1.2)",
                set("times-04-12", &["times.t.std=1.2"]),
                61.79,
            ),
        ],
    },
    Part {
        name: "power",
        title: "Power of the adaptive weight",
        column: "p",
        rows: &[
            row("0", set("power-0", &["loss.norm_p=0.0"]), 79.75),
            row("0.5", set("power-05", &["loss.norm_p=0.5"]), 63.98),
            row("1", BASE, 61.06),
            row("1.5", set("power-15", &["loss.norm_p=1.5"]), 66.57),
            row("2", set("power-2", &["loss.norm_p=2.0"]), 69.19),
        ],
    },
    Part {
        name: "omega",
        title: "Guidance ω, with κ = 0",
        column: "ω",
        rows: &[
            row("1 (none)", BASE, 61.06),
            row("1.5", set("omega-15", &[guidance!("1.5", "0.0")]), 33.33),
            row("2", OMEGA_2, 20.15),
            row("3", set("omega-3", &[guidance!("3.0", "0.0")]), 15.53),
        ],
    },
    Part {
        name: "kappa",
        title: "Mixing κ, at ω' = ω/(1 − κ) = 2",
        column: "κ",
        rows: &[
            row("0", OMEGA_2, 20.15),
            row("0.5", set("kappa-05", &[guidance!("1.0", "0.5")]), 19.15),
            row("0.8", set("kappa-08", &[guidance!("0.4", "0.8")]), 19.10),
            row("0.9", set("kappa-09", &[guidance!("0.2", "0.9")]), 18.63),
        ],
    },
];

/// Every variant once, in the order of the parts that are wanted; all without names.
///
/// # Errors
/// A name that is no part's.
pub(super) fn variants(only: &[String]) -> Result<Vec<Variant>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| PARTS.iter().all(|part| part.name != **name))
    {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!(
            "--only: expected one of {}, got {unknown}",
            names.join(", ")
        );
    }
    let wanted = PARTS
        .iter()
        .filter(|part| only.is_empty() || only.iter().any(|name| name == part.name));
    let mut variants: Vec<Variant> = Vec::new();
    for row in wanted.flat_map(|part| part.rows) {
        if !variants.contains(&row.variant) {
            variants.push(row.variant);
        }
    }
    Ok(variants)
}

const fn row(label: &'static str, variant: Variant, paper: f64) -> Row {
    Row {
        label,
        variant,
        paper,
    }
}

const fn set(name: &'static str, set: &'static [&'static str]) -> Variant {
    Variant {
        name,
        set,
        wrong_direction: None,
    }
}

const fn wrong(name: &'static str, direction: [f64; 2]) -> Variant {
    Variant {
        name,
        set: &[],
        wrong_direction: Some(direction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_variant_and_a_part_has_the_base_or_shares_a_run() {
        let all = variants(&[]).unwrap();
        for (index, variant) in all.iter().enumerate() {
            assert!(
                all[..index].iter().all(|other| other.name != variant.name),
                "{}",
                variant.name
            );
            assert_eq!(
                *variant == BASE,
                variant.set.is_empty() && variant.wrong_direction.is_none()
            );
        }
        let rows: usize = PARTS.iter().map(|part| part.rows.len()).sum();
        // Seven parts are held together by six runs of the base and one of ω = 2.
        assert_eq!((rows, all.len()), (30, 30 - 5 - 1));
    }

    #[test]
    fn the_right_direction_is_in_no_wrong_variant() {
        let wrong = PARTS
            .iter()
            .flat_map(|part| part.rows)
            .filter_map(|row| row.variant.wrong_direction);
        assert!(
            wrong.clone().count() == 3 && wrong.clone().all(|direction| direction != [0.0, 1.0])
        );
    }

    #[test]
    fn kappa_varies_at_one_effective_scale() {
        for omega_kappa in [
            ["2.0", "0.0"],
            ["1.0", "0.5"],
            ["0.4", "0.8"],
            ["0.2", "0.9"],
        ] {
            let [omega, kappa] = omega_kappa.map(|number| number.parse::<f64>().unwrap());
            // Rounding of two operations.
            assert!((omega / (1.0 - kappa) - 2.0).abs() < 1e-12);
            let text = format!("omega = {}, kappa = {},", omega_kappa[0], omega_kappa[1]);
            let part = PARTS.iter().find(|part| part.name == "kappa").unwrap();
            assert!(
                part.rows
                    .iter()
                    .any(|row| row.variant.set[0].contains(&text)),
                "{text}"
            );
        }
    }

    #[test]
    fn only_takes_names_of_parts() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            variants(&only).map(|list| list.iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(
            names(&["omega"]).unwrap(),
            ["base", "omega-15", "omega-2", "omega-3"]
        );
        assert_eq!(names(&["kappa", "omega"]).unwrap().len(), 7);
        let error = names(&["speed"]).unwrap_err().to_string();
        assert!(
            error.contains("tangent") && error.contains("speed"),
            "{error}"
        );
    }
}

//! Features at the door: the right shape, finite, in f64 on the CPU.

use tch::{Device, Kind, Tensor};

use crate::EvalError;

/// `features` as `[N, D]` in f64 on the CPU.
///
/// Sums over thousands of samples and differences of nearly equal distances follow; f32 would not do for either.
pub(crate) fn checked(what: &'static str, features: &Tensor) -> Result<Tensor, EvalError> {
    check(what, features)?;
    Ok(wide(features).contiguous())
}

/// `features` in f64 on the CPU.
pub(crate) fn wide(features: &Tensor) -> Tensor {
    features
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Double)
}

/// Refuses features that are not `[N, D]`, or not finite.
pub(crate) fn check(what: &'static str, features: &Tensor) -> Result<(), EvalError> {
    if features.dim() != 2 || features.size()[1] == 0 {
        return Err(EvalError::Shape {
            what,
            expected: "[N, D] with D ≥ 1".into(),
            got: features.size(),
        });
    }
    // A sum is finite if no number in it is infinite or NaN; 1e308 overflows and is no feature either.
    let sums = features.detach().sum_dim_intlist(1, false, Kind::Double);
    match sums.isfinite().logical_not().nonzero() {
        none if none.numel() == 0 => Ok(()),
        rows => Err(EvalError::NotFinite {
            what,
            row: rows.int64_value(&[0, 0]),
        }),
    }
}

/// Two sets of features of one width.
pub(crate) fn checked_pair(x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor), EvalError> {
    let x = checked("generated features", x)?;
    let y = checked("real features", y)?;
    if x.size()[1] != y.size()[1] {
        return Err(EvalError::Shape {
            what: "real features",
            expected: format!("[N, {}], as the generated ones", x.size()[1]),
            got: y.size(),
        });
    }
    Ok((x, y))
}

/// Refuses fewer than `needed` rows.
pub(crate) fn at_least(what: &'static str, needed: u64, rows: &Tensor) -> Result<(), EvalError> {
    let got = rows.size()[0] as u64;
    if got < needed {
        return Err(EvalError::TooFew { what, needed, got });
    }
    Ok(())
}

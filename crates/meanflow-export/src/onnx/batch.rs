//! Where the number of rows stands in a record, found by comparing the records of two numbers of rows.

use meanflow_libtorch::trace::{Argument, Operation, Trace};

use crate::ExportError;

/// What stands for the number of rows, or a multiple of it, in a list of sizes: the one size that follows from the others.
const FREE: Argument = Argument::Int(-1);

/// The operations of the first record, with sizes that follow the number of rows made free.
///
/// # Errors
/// If the records are not the same up to such sizes: the network then does something else for another number of rows.
pub(super) fn freed(one: &Trace, other: &Trace) -> Result<Vec<Operation>, ExportError> {
    if one.operations.len() != other.operations.len() {
        let (one, other) = (one.operations.len(), other.operations.len());
        let text =
            format!("{one} operations for two rows, {other} for three: they depend on the batch");
        return Err(ExportError::Graph(text));
    }
    for (constant, twin) in one.constants.iter().zip(&other.constants) {
        if constant.size() != twin.size() || constant.kind() != twin.kind() || constant != twin {
            let (one, other) = (constant.size(), twin.size());
            let text = format!(
                "a constant that depends on the batch: {one:?} for two rows, {other:?} for three"
            );
            return Err(ExportError::Graph(text));
        }
    }
    let pairs = one.operations.iter().zip(&other.operations);
    pairs.map(|(one, other)| operation(one, other)).collect()
}

fn operation(one: &Operation, other: &Operation) -> Result<Operation, ExportError> {
    let refused = |problem: String| ExportError::Operation {
        operation: one.name.clone(),
        problem,
    };
    if one.name != other.name || one.arguments.len() != other.arguments.len() {
        return Err(refused(format!(
            "another operation for another batch: {}",
            other.name
        )));
    }
    let pairs = one.arguments.iter().zip(&other.arguments);
    let arguments = pairs
        .enumerate()
        .map(|(place, (argument, twin))| match (argument, twin) {
            _ if argument == twin => Ok(argument.clone()),
            (Argument::List(sizes), Argument::List(twins)) => list(sizes, twins).ok_or_else(|| {
                refused(format!(
                    "{argument:?}: depends on the batch in more than one size"
                ))
            }),
            // libtorch's group norm is told how many rows there are, and finds them in its input as well.
            (Argument::Int(_), Argument::Int(_))
                if one.name == "aten::native_group_norm" && place == 3 =>
            {
                Ok(Argument::None)
            }
            _ => Err(refused(format!("{argument:?}: depends on the batch"))),
        });
    Ok(Operation {
        name: one.name.clone(),
        arguments: arguments.collect::<Result<_, _>>()?,
        results: one.results.clone(),
    })
}

/// Sizes, with the one that differs made free; none where more than one does or one is free already.
fn list(sizes: &[Argument], twins: &[Argument]) -> Option<Argument> {
    let mut free = sizes.iter().filter(|size| **size == FREE).count();
    let mut freed = Vec::with_capacity(sizes.len());
    for (size, twin) in sizes.iter().zip(twins) {
        freed.push(match (size, twin) {
            _ if size == twin => size.clone(),
            (Argument::Int(_), Argument::Int(_)) => {
                free += 1;
                FREE
            }
            _ => return None,
        });
    }
    (free == 1 && sizes.len() == twins.len()).then_some(Argument::List(freed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(sizes: &[i64]) -> Argument {
        Argument::List(sizes.iter().copied().map(Argument::Int).collect())
    }

    fn reshape(size: Argument) -> Operation {
        Operation {
            name: "aten::view".to_owned(),
            arguments: vec![Argument::Value(0), size],
            results: Vec::new(),
        }
    }

    #[test]
    fn the_size_that_follows_the_batch_becomes_free() {
        for (two, three, expected) in [
            ([2, 4, 3], [3, 4, 3], Some([-1, 4, 3])),
            ([4, 2, 3], [6, 2, 3], Some([-1, 2, 3])),
            ([2, 2, 3], [2, 2, 3], Some([2, 2, 3])),
            ([2, 4, 2], [3, 4, 3], None),
            ([2, -1, 3], [3, -1, 3], None),
        ] {
            let found = operation(&reshape(sizes(&two)), &reshape(sizes(&three)));
            let found = found.ok().map(|found| found.arguments[1].clone());
            assert_eq!(found, expected.map(|expected| sizes(&expected)), "{two:?}");
        }
    }

    #[test]
    fn whatever_else_follows_the_batch_is_refused_by_name() {
        let scaled = |factor| Operation {
            name: "aten::mul".to_owned(),
            arguments: vec![Argument::Value(0), Argument::Int(factor)],
            results: Vec::new(),
        };
        let error = operation(&scaled(2), &scaled(3)).unwrap_err().to_string();
        assert!(
            error.contains("aten::mul") && error.contains("batch"),
            "{error}"
        );
        let error = operation(&scaled(2), &reshape(sizes(&[2]))).unwrap_err();
        assert!(error.to_string().contains("aten::view"), "{error}");
    }
}

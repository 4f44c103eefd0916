//! Panics with libtorch's words, made errors again.
//!
//! tch's operators and methods panic where libtorch refuses, which is what keeps formulas legible. What can be refused for
//! no fault of the program, most of all memory, has to end as an error: [`recover`] stands around whole pieces of work.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::LibtorchError;

thread_local! {
    static RECOVERING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`. Where it panics with an error of libtorch, gives that error, with `operation` before its words; any other
/// panic goes on.
///
/// Nothing is printed for a panic that becomes an error: the first call puts a hook around the process's own, which passes
/// every other panic on. What `work` was changing may be half done, as after any error in the middle of it.
///
/// # Errors
/// Those of `work`, and libtorch's.
pub fn recover<T, E: From<LibtorchError>>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !(RECOVERING.get() && words(panic.payload()).is_some()) {
                hook(panic);
            }
        }));
    });
    let outside = RECOVERING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    RECOVERING.set(outside);
    match result {
        Ok(result) => result,
        Err(payload) => match words(payload.as_ref()) {
            Some(message) => Err(LibtorchError::call(operation, message).into()),
            None => panic::resume_unwind(payload),
        },
    }
}

/// libtorch's words in the payload of a panic, if they are there.
fn words(payload: &(dyn Any + Send)) -> Option<String> {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())?;
    // As tch's wrappers unwrap: `called `Result::unwrap()` on an `Err` value: Torch("…")`, escaped.
    let theirs = text.split_once("Torch(\"").map(|(_, rest)| {
        let message = rest.strip_suffix("\")").unwrap_or(rest);
        message.replace("\\n", "\n").replace("\\\"", "\"")
    });
    // As `done` panics.
    let ours = text.strip_prefix("libtorch could not ");
    let ours = ours
        .and_then(|rest| rest.split_once(": "))
        .map(|(_, message)| message.to_owned());
    let message = theirs.or(ours)?;
    // Where in libtorch's sources helps nobody here.
    let end = message
        .find("\nException raised from")
        .unwrap_or(message.len());
    Some(message[..end].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_refusal_of_libtorch_is_an_error_and_says_why() {
        let [a, b] = [[2, 3], [4, 5]].map(|size| Tensor::zeros(size, (Kind::Float, Device::Cpu)));
        let refused = recover("multiply", || Ok::<_, LibtorchError>(a.matmul(&b))).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.starts_with("libtorch could not multiply: mat1 and mat2"),
            "{text}"
        );
        assert!(
            !text.contains("Exception raised") && !refused.is_out_of_memory(),
            "{text}"
        );
        let ours = recover("step", || -> Result<(), LibtorchError> {
            crate::done(Err(LibtorchError::call("add", "CUDA out of memory. Tried")))
        });
        let ours = ours.unwrap_err();
        assert_eq!(
            ours.to_string(),
            "libtorch could not step: CUDA out of memory. Tried"
        );
        assert!(ours.is_out_of_memory());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_that_says_so() {
        let refused = recover("allocate", || {
            Ok::<_, LibtorchError>(Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu)))
        });
        let refused = refused.unwrap_err();
        assert!(refused.is_out_of_memory(), "{refused}");
    }

    #[test]
    fn another_panic_goes_on() {
        let other = panic::catch_unwind(|| {
            recover("x", || -> Result<(), LibtorchError> { panic!("a mistake") })
        });
        let payload = other.unwrap_err();
        assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "a mistake");
    }

    #[test]
    fn errors_of_the_work_are_its_own() {
        let own = recover("x", || Err::<(), _>(LibtorchError::Nested)).unwrap_err();
        assert!(matches!(own, LibtorchError::Nested));
    }
}

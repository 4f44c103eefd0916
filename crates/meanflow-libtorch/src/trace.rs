//! The operations that a piece of work consists of, recorded while it is done.

use std::ffi::{CStr, c_char};
use std::ptr::{self, NonNull};

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::{check, handles};

/// The C++ side's record, behind a pointer.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn mf_trace_begin(inputs: *const *const C_tensor, count: usize) -> *mut c_char;
    fn mf_trace_abandon() -> *mut c_char;
    fn mf_trace_end(
        out: *mut *mut Opaque,
        outputs: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    fn mf_trace_text(
        trace: *const Opaque,
        text: *mut *const c_char,
        constants: *mut usize,
    ) -> *mut c_char;
    fn mf_trace_constant(trace: *const Opaque, index: usize, out: *mut C_tensor) -> *mut c_char;
    fn mf_trace_free(trace: *mut Opaque) -> *mut c_char;
}

/// An argument of an [`Operation`].
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// The value of this number: an input, or the result of an earlier operation.
    Value(usize),
    /// The constant tensor of this place in [`Trace::constants`].
    Constant(usize),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// A word.
    Text(String),
    /// Several arguments.
    List(Vec<Self>),
    /// An argument that is left out, or one of no influence on the values, such as a device.
    None,
}

/// A value that an operation gives, or an input.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedValue {
    /// Its number, by which later operations name it.
    pub number: usize,
    /// Dtype and sizes of a tensor; none of another value, such as a list of tensors.
    pub tensor: Option<(Kind, Vec<i64>)>,
}

/// One operation of libtorch.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its name, such as `aten::add`.
    pub name: String,
    /// Its arguments in the order of its schema.
    pub arguments: Vec<Argument>,
    /// What it gives.
    pub results: Vec<TracedValue>,
}

/// What a piece of work did: its operations in their order, those that the outputs do not depend on left out.
#[derive(Debug)]
pub struct Trace {
    /// One for each input, in their order.
    pub inputs: Vec<TracedValue>,
    /// The operations.
    pub operations: Vec<Operation>,
    /// Tensors that are neither inputs nor results.
    pub constants: Vec<Tensor>,
    /// What the work returned.
    pub outputs: Vec<Argument>,
}

/// Does `work` and records its operations on `inputs`; it must use these tensors, not copies made before.
///
/// Numbers that the work takes out of tensors, sizes above all, are constants in the record. Operations of our own (those of
/// [`kernels`](crate::kernels)) are none of libtorch's, and are not seen.
///
/// # Errors
/// Those of `work`, and if libtorch refuses. The recording ends in any case, also by a panic.
///
/// ```
/// use meanflow_libtorch::trace::{Argument, trace};
/// use tch::Tensor;
///
/// let x = Tensor::from_slice(&[1.0_f32, 2.0]);
/// let trace = trace(&[&x], || Ok::<_, meanflow_libtorch::LibtorchError>(vec![x.silu()]))?;
/// assert_eq!(trace.operations[0].name, "aten::silu");
/// assert_eq!(trace.operations[0].arguments, [Argument::Value(trace.inputs[0].number)]);
/// # Ok::<(), meanflow_libtorch::LibtorchError>(())
/// ```
pub fn trace<E: From<LibtorchError>>(
    inputs: &[&Tensor],
    work: impl FnOnce() -> Result<Vec<Tensor>, E>,
) -> Result<Trace, E> {
    let pointers = handles(inputs);
    // SAFETY: the handles are live, and as many as are told.
    check("record operations", unsafe {
        mf_trace_begin(pointers.as_ptr(), pointers.len())
    })?;
    let recording = Recording;
    let outputs = work()?;
    std::mem::forget(recording);
    let record = Record::end(&outputs)?;
    Ok(record.read()?)
}

/// A recording, which is given up when dropped.
struct Recording;

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: no memory is passed. There is nobody to tell of a failure on the way out.
        let _ = check("give up a recording", unsafe { mf_trace_abandon() });
    }
}

/// What the C++ side has recorded.
struct Record(NonNull<Opaque>);

impl Record {
    fn end(outputs: &[Tensor]) -> Result<Self, LibtorchError> {
        let outputs: Vec<&Tensor> = outputs.iter().collect();
        let pointers = handles(&outputs);
        let mut out = ptr::null_mut();
        // SAFETY: the handles are live, and as many as are told; `out` outlives the call.
        let message = unsafe { mf_trace_end(&raw mut out, pointers.as_ptr(), pointers.len()) };
        check("end a recording", message)?;
        Ok(Self(
            NonNull::new(out).expect("the call gave a record or a message"),
        ))
    }

    fn read(&self) -> Result<Trace, LibtorchError> {
        let (mut text, mut count) = (ptr::null(), 0);
        // SAFETY: the record is live, and both results outlive the call.
        let message = unsafe { mf_trace_text(self.0.as_ptr(), &raw mut text, &raw mut count) };
        check("read a record", message)?;
        // SAFETY: a NUL-terminated string that lives as long as the record.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        let constants = (0..count).map(|index| {
            let mut out = Tensor::new();
            // SAFETY: the record and the handle are live.
            let message = unsafe { mf_trace_constant(self.0.as_ptr(), index, out.as_mut_ptr()) };
            check("read a record", message).map(|()| out)
        });
        parse(&text, constants.collect::<Result<_, _>>()?)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: the record is live until here; freeing it cannot fail.
        let _ = check("free a record", unsafe { mf_trace_free(self.0.as_ptr()) });
    }
}

/// Reads what `cpp/trace.cpp` writes.
fn parse(text: &str, constants: Vec<Tensor>) -> Result<Trace, LibtorchError> {
    let mut trace = Trace {
        inputs: Vec::new(),
        operations: Vec::new(),
        constants,
        outputs: Vec::new(),
    };
    for line in text.lines() {
        let unreadable = || LibtorchError::call("read a record", format!("unreadable: {line}"));
        let (left, right) = line.split_once(" ->").unwrap_or((line, ""));
        let mut words = left.split_whitespace();
        let name = words.next().ok_or_else(unreadable)?.to_owned();
        let arguments = arguments(&mut words).ok_or_else(unreadable)?;
        let results = right.split_whitespace().map(result);
        let results = results.collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
        match name.as_str() {
            "inputs" => trace.inputs = results,
            "outputs" => trace.outputs = arguments,
            _ => trace.operations.push(Operation {
                name,
                arguments,
                results,
            }),
        }
    }
    Ok(trace)
}

/// Arguments up to the end, or to the end of the list that they are in.
fn arguments<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Vec<Argument>> {
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if word == "]" {
            break;
        }
        let rest = &word[1..];
        found.push(match &word[..1] {
            "[" => Argument::List(arguments(words)?),
            "%" => Argument::Value(rest.parse().ok()?),
            "#" => Argument::Constant(rest.parse().ok()?),
            "i" => Argument::Int(rest.parse().ok()?),
            "f" => Argument::Float(rest.parse().ok()?),
            "b" => Argument::Bool(rest == "1"),
            "s" => Argument::Text(rest.to_owned()),
            "n" => Argument::None,
            _ => return None,
        });
    }
    Some(found)
}

/// `%number`, or `%number:dtype:sizes` of a tensor.
fn result(word: &str) -> Option<TracedValue> {
    let mut parts = word.strip_prefix('%')?.split(':');
    let number = parts.next()?.parse().ok()?;
    let tensor = match (parts.next(), parts.next()) {
        (Some(kind), Some(sizes)) => {
            let kind = kind_of(kind.parse().ok()?)?;
            let sizes = sizes.split(',').filter(|side| !side.is_empty());
            let sizes = sizes.map(|side| side.parse().ok());
            Some((kind, sizes.collect::<Option<Vec<_>>>()?))
        }
        _ => None,
    };
    Some(TracedValue { number, tensor })
}

/// The dtype of libtorch's number for it.
fn kind_of(number: i64) -> Option<Kind> {
    Some(match number {
        0 => Kind::Uint8,
        1 => Kind::Int8,
        2 => Kind::Int16,
        3 => Kind::Int,
        4 => Kind::Int64,
        5 => Kind::Half,
        6 => Kind::Float,
        7 => Kind::Double,
        11 => Kind::Bool,
        15 => Kind::BFloat16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Done = Result<Vec<Tensor>, LibtorchError>;

    fn numbers() -> Tensor {
        Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape([2, 3])
    }

    /// Arguments of every kind, results that are lists, and constants.
    #[test]
    fn operations_come_with_arguments_results_and_constants() {
        let (x, factor) = (numbers(), Tensor::from_slice(&[2.0_f32, 3.0, 4.0]));
        let trace = trace(&[&x], || -> Done {
            let parts = (&x * &factor).chunk(3, 1);
            Ok(vec![Tensor::cat(&parts, 0).gelu("tanh") * 0.5])
        });
        let trace = trace.unwrap();
        let names: Vec<&str> = trace.operations.iter().map(|one| &*one.name).collect();
        let expected = [
            "aten::mul",
            "aten::chunk",
            "prim::ListUnpack",
            "aten::cat",
            "aten::gelu",
            "aten::mul",
        ];
        assert_eq!(names, expected);
        assert_eq!(trace.inputs[0].tensor, Some((Kind::Float, vec![2, 3])));
        assert_eq!(trace.constants, [factor]);
        let [mul, chunk, unpack, cat, gelu, half] = &trace.operations[..] else {
            unreachable!("six operations")
        };
        let x = Argument::Value(trace.inputs[0].number);
        assert_eq!(mul.arguments, [x, Argument::Constant(0)]);
        assert_eq!(chunk.arguments[1..], [3, 1].map(Argument::Int));
        assert_eq!(chunk.results[0].tensor, None);
        let parts = unpack
            .results
            .iter()
            .map(|part| Argument::Value(part.number));
        assert_eq!(cat.arguments[0], Argument::List(parts.collect()));
        assert_eq!(gelu.arguments[1], Argument::Text("tanh".to_owned()));
        assert_eq!(half.arguments[1], Argument::Float(0.5));
        assert_eq!(half.results[0].tensor, Some((Kind::Float, vec![6, 1])));
        assert_eq!(trace.outputs, [Argument::Value(half.results[0].number)]);
    }

    /// A parameter takes gradients, and a factor of it may be used twice.
    #[test]
    fn inputs_that_take_gradients_stay_inputs() {
        let x = numbers();
        let weight = Tensor::from_slice(&[1.0_f32, 0.0, 0.0]).set_requires_grad(true);
        let trace = trace(&[&x, &weight], || -> Done {
            Ok(vec![&x * &weight + &weight])
        });
        let trace = trace.unwrap();
        assert!(trace.constants.is_empty());
        let weight = Argument::Value(trace.inputs[1].number);
        assert!(
            trace
                .operations
                .iter()
                .all(|one| one.arguments[1] == weight)
        );
    }

    #[test]
    fn a_recording_ends_with_its_work_however_that_ends() {
        let x = numbers();
        let failed: Result<Trace, LibtorchError> =
            trace(&[&x], || Err(LibtorchError::call("go on", "a reason")));
        assert!(failed.unwrap_err().to_string().contains("a reason"));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            trace(&[&x], || -> Done { panic!("on the way") })
        }));
        assert!(caught.is_err());
        let nested = trace(&[&x], || {
            trace(&[&x], || -> Done { Ok(vec![x.silu()]) })?;
            Ok::<_, LibtorchError>(vec![x.silu()])
        });
        assert!(nested.unwrap_err().to_string().contains("already"));
        let after = trace(&[&x], || -> Done { Ok(vec![x.silu()]) }).unwrap();
        assert_eq!(after.operations.len(), 1);
    }

    #[test]
    fn what_does_not_reach_an_output_is_left_out() {
        let x = numbers();
        let trace = trace(&[&x], || -> Done {
            let _ = x.exp();
            Ok(vec![x.silu()])
        });
        assert_eq!(trace.unwrap().operations.len(), 1);
    }
}

//! The border between the host and the device: numbers go over without waiting, and come back at one place.

use std::cell::Cell;

use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use crate::{LibtorchError, done, transfer};

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
    static SENDS: Cell<u64> = const { Cell::new(0) };
}

/// `values` on a device, `[len]`. For a CUDA device they go through pinned memory, asynchronously.
pub fn upload<T: Element>(values: &[T], device: Device) -> Tensor {
    send(&Tensor::from_slice(values), device)
}

/// A tensor of the host on a device, in the same way.
///
/// # Panics
/// As tch does where memory is missing; see [`recover`](crate::recover).
pub fn send(tensor: &Tensor, device: Device) -> Tensor {
    SENDS.set(SENDS.get() + 1);
    match device {
        Device::Cuda(index) => done(transfer::send_pinned(tensor, index)),
        _ => tensor.to_device(device),
    }
}

/// The numbers of a tensor of any shape, row by row. Waits until the device has computed them.
///
/// A training step reads at no other place.
///
/// # Errors
/// If libtorch refuses.
pub fn read(tensor: &Tensor) -> Result<Vec<f64>, LibtorchError> {
    READS.set(READS.get() + 1);
    let numbers = tensor.detach().reshape([-1]).to_kind(Kind::Double);
    Vec::try_from(numbers.to_device(Device::Cpu))
        .map_err(|error: tch::TchError| LibtorchError::call("read a tensor", &error))
}

/// Runs `work` and counts how often it waited for a result of this thread's device: calls of [`read`], and operations of
/// libtorch whose answer is a number of the host. It counts on a CPU, too, where nobody waits.
///
/// # Errors
/// If libtorch refuses to be watched.
pub fn waits<T>(work: impl FnOnce() -> T) -> Result<(T, u64), LibtorchError> {
    let before = READS.get();
    let (result, operations) = transfer::count_host_operations(work)?;
    Ok((result, operations + READS.get() - before))
}

/// Runs `work` and counts the tensors that this thread sent to a device; those that a CPU kept count, too.
pub fn sends<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = SENDS.get();
    let result = work();
    (result, SENDS.get() - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_wait_is_counted() {
        let x = Tensor::from_slice(&[1.0_f32, 2.0]);
        let count = |work: fn(&Tensor)| waits(|| work(&x)).unwrap().1;
        assert_eq!(count(|x| drop(x * 2.0 + x.sum(Kind::Float))), 0);
        assert_eq!(count(|x| drop(read(x).unwrap())), 1);
        assert_eq!(count(|x| assert_eq!(x.double_value(&[1]), 2.0)), 1);
        assert!(count(|x| assert!(x.equal(x))) > 0);
        assert!(count(|x| drop(x.nonzero())) > 0);
        assert_eq!(count(|x| drop(x + 1.0)), 0, "the watch ends");
    }

    #[test]
    fn what_goes_over_comes_back() {
        let (there, sends) = sends(|| upload(&[1_i64, -2, 3], Device::Cpu));
        assert_eq!(sends, 1);
        assert_eq!(there.kind(), Kind::Int64);
        assert_eq!(read(&there.reshape([3, 1])).unwrap(), [1.0, -2.0, 3.0]);
    }
}

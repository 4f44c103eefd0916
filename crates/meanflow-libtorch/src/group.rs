//! Processes that compute together, by libtorch's own engine: Gloo between CPUs, NCCL between CUDA devices.

use std::ffi::c_char;
use std::ptr::NonNull;
use std::time::Duration;

use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::call::check;
use crate::store::{self, Store, milliseconds};
use crate::{LibtorchError, device, version};

/// The C++ side's group, behind a pointer.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn mf_group_gloo(
        out: *mut *mut Opaque,
        store: *const store::Opaque,
        rank: i32,
        size: i32,
        address: *const c_char,
        timeout: i64,
    ) -> *mut c_char;
    fn mf_group_nccl(
        out: *mut *mut Opaque,
        store: *const store::Opaque,
        rank: i32,
        size: i32,
        device: i64,
        timeout: i64,
    ) -> *mut c_char;
    fn mf_group_shutdown(group: *mut Opaque) -> *mut c_char;
    fn mf_group_free(group: *mut Opaque) -> *mut c_char;
    fn mf_group_all_reduce(group: *mut Opaque, tensor: *mut C_tensor) -> *mut c_char;
    fn mf_group_broadcast(group: *mut Opaque, tensor: *mut C_tensor, root: i64) -> *mut c_char;
    fn mf_group_all_gather(
        group: *mut Opaque,
        output: *mut C_tensor,
        input: *const C_tensor,
    ) -> *mut c_char;
    fn mf_group_reduce_scatter(
        group: *mut Opaque,
        output: *mut C_tensor,
        input: *const C_tensor,
    ) -> *mut c_char;
    fn mf_group_all_to_all(
        group: *mut Opaque,
        output: *mut C_tensor,
        input: *const C_tensor,
    ) -> *mut c_char;
    fn mf_group_barrier(group: *mut Opaque) -> *mut c_char;
}

/// One of `size` processes, or threads, that compute together: each calls the same operations in the same order, with tensors
/// of the same shapes and dtypes, contiguous and on the device of the group.
///
/// On the CPU an operation is done when its call returns, or has failed within the timeout of the group. On a CUDA device it is
/// put behind what the current stream is doing, so that a [`CudaGraph`](crate::CudaGraph) records it; a replay is watched by no timeout.
///
/// # Errors
/// Operations fail with [`LibtorchError::Group`] where another rank was lost or did not answer in time, after which the group is
/// of no more use; and with another error, before anything is sent, where a tensor does not fit.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: NonNull<Opaque>,
    rank: usize,
    size: usize,
    device: Device,
}

// SAFETY: libtorch's groups may be used by any thread, one at a time.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Joins a group over Gloo as `rank` of `size`, from 0: tensors are on the CPU. `address` is the one of this machine by which
    /// the others reach it, `127.0.0.1` where all are on one. Waits for the others.
    ///
    /// # Errors
    /// If the rank is none of the group's, or not everybody has joined within `timeout`, which also holds for every operation.
    pub fn gloo(
        store: &Store,
        rank: usize,
        size: usize,
        address: &str,
        timeout: Duration,
    ) -> Result<Self, LibtorchError> {
        let address = store::text(JOIN, address)?;
        // SAFETY: the store is live and `address` outlives the call.
        joined(rank, size, Device::Cpu, |out, rank, size| unsafe {
            let address = address.as_ptr();
            mf_group_gloo(
                out,
                store.as_ptr(),
                rank,
                size,
                address,
                milliseconds(timeout),
            )
        })
    }

    /// Joins a group over NCCL as `rank` of `size`, from 0, with the CUDA device of this number, which is of no other rank.
    /// Communicators are made now. Waits for the others.
    ///
    /// # Errors
    /// If CUDA's libraries are not there, if the rank is none of the group's, or libtorch or NCCL refuses.
    pub fn nccl(
        store: &Store,
        rank: usize,
        size: usize,
        device: usize,
        timeout: Duration,
    ) -> Result<Self, LibtorchError> {
        version::require()?;
        device::require_cuda(&format!("cuda:{device}"))?;
        // SAFETY: the store is live.
        joined(rank, size, Device::Cuda(device), |out, rank, size| unsafe {
            let (device, timeout) = (device as i64, milliseconds(timeout));
            mf_group_nccl(out, store.as_ptr(), rank, size, device, timeout)
        })
    }

    /// Which of the group this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many are in the group.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where tensors of the group are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Replaces a tensor by its sum over all ranks, which have the same bits afterwards. In which order it adds is the engine's
    /// matter, and another for another number of ranks.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<(), LibtorchError> {
        const OPERATION: &str = "all-reduce";
        self.fits(OPERATION, tensor)?;
        // SAFETY: group and tensor are live, here and below.
        self.done(OPERATION, unsafe {
            mf_group_all_reduce(self.raw.as_ptr(), tensor.as_ptr().cast_mut())
        })
    }

    /// Replaces a tensor by that of rank `root`.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<(), LibtorchError> {
        const OPERATION: &str = "broadcast";
        self.fits(OPERATION, tensor)?;
        if root >= self.size {
            let (size, expected) = (self.size, "expected a root of the group");
            return Err(LibtorchError::call(
                OPERATION,
                format!("{expected}, which has {size} ranks, got {root}"),
            ));
        }
        // SAFETY: as above.
        self.done(OPERATION, unsafe {
            mf_group_broadcast(self.raw.as_ptr(), tensor.as_ptr().cast_mut(), root as i64)
        })
    }

    /// The tensors `[N, …]` of all ranks behind each other, `[size · N, …]`.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor, LibtorchError> {
        const OPERATION: &str = "all-gather";
        self.fits(OPERATION, tensor)?;
        let mut shape = self.rows(OPERATION, tensor, 1)?;
        shape[0] *= self.size as i64;
        let output = Tensor::empty(&shape, (tensor.kind(), self.device));
        // SAFETY: as above.
        self.done(OPERATION, unsafe {
            let output = output.as_ptr().cast_mut();
            mf_group_all_gather(self.raw.as_ptr(), output, tensor.as_ptr())
        })?;
        Ok(output)
    }

    /// Of the sum over all ranks of tensors `[size · N, …]` the `N` rows of this rank, `[N, …]`; in the engine's order.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn reduce_scatter(&self, tensor: &Tensor) -> Result<Tensor, LibtorchError> {
        const OPERATION: &str = "reduce-scatter";
        self.fits(OPERATION, tensor)?;
        let mut shape = self.rows(OPERATION, tensor, self.size)?;
        shape[0] /= self.size as i64;
        let output = Tensor::empty(&shape, (tensor.kind(), self.device));
        // SAFETY: as above.
        self.done(OPERATION, unsafe {
            let output = output.as_ptr().cast_mut();
            mf_group_reduce_scatter(self.raw.as_ptr(), output, tensor.as_ptr())
        })?;
        Ok(output)
    }

    /// Sends rows to every rank: of a tensor `[size · N, …]` rank `i` gets the `i`-th `N` rows. What comes back, of the same
    /// shape, are the rows that rank 0 sent to this one, then those that rank 1 sent, and so on.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn all_to_all(&self, tensor: &Tensor) -> Result<Tensor, LibtorchError> {
        const OPERATION: &str = "all-to-all";
        self.fits(OPERATION, tensor)?;
        let shape = self.rows(OPERATION, tensor, self.size)?;
        let output = Tensor::empty(&shape, (tensor.kind(), self.device));
        // SAFETY: as above.
        self.done(OPERATION, unsafe {
            let output = output.as_ptr().cast_mut();
            mf_group_all_to_all(self.raw.as_ptr(), output, tensor.as_ptr())
        })?;
        Ok(output)
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn barrier(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        self.done("wait at a barrier", unsafe {
            mf_group_barrier(self.raw.as_ptr())
        })
    }

    /// Leaves the group when all of it is done. NCCL's threads run on in a group that is only dropped.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn close(self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        self.done("close", unsafe { mf_group_shutdown(self.raw.as_ptr()) })
    }

    /// What went wrong with whom.
    fn done(&self, operation: &'static str, message: *mut c_char) -> Result<(), LibtorchError> {
        check(operation, message).map_err(|error| of_group(self.rank, self.size, error))
    }

    fn fits(&self, operation: &'static str, tensor: &Tensor) -> Result<(), LibtorchError> {
        let device = tensor.device();
        if device != self.device {
            let expected = self.device;
            let text = format!("expected a tensor on {expected:?}, got one on {device:?}");
            return Err(LibtorchError::call(operation, text));
        }
        if !tensor.is_contiguous() {
            let text = "expected a contiguous tensor, got one with other strides";
            return Err(LibtorchError::call(operation, text));
        }
        Ok(())
    }

    /// The shape of a tensor with so many rows, or a multiple.
    fn rows(
        &self,
        operation: &'static str,
        tensor: &Tensor,
        multiple: usize,
    ) -> Result<Vec<i64>, LibtorchError> {
        let shape = tensor.size();
        match shape.first() {
            Some(rows) if rows % multiple as i64 == 0 => Ok(shape),
            _ => Err(LibtorchError::call(
                operation,
                format!("expected rows that {multiple} divides, got a tensor of shape {shape:?}"),
            )),
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: the group is live and is not used again. A failure has nobody to go to.
        let _ = check("free a group", unsafe { mf_group_free(self.raw.as_ptr()) });
    }
}

const JOIN: &str = "join the group";

fn joined(
    rank: usize,
    size: usize,
    device: Device,
    call: impl FnOnce(*mut *mut Opaque, i32, i32) -> *mut c_char,
) -> Result<ProcessGroup, LibtorchError> {
    let (Ok(index), Ok(count)) = (i32::try_from(rank), i32::try_from(size)) else {
        return Err(LibtorchError::call(JOIN, "too many ranks"));
    };
    if rank >= size {
        let text = format!("expected a rank below {size}, the number of ranks, got {rank}");
        return Err(LibtorchError::call(JOIN, text));
    }
    let mut out = std::ptr::null_mut();
    check(JOIN, call(&raw mut out, index, count)).map_err(|error| of_group(rank, size, error))?;
    Ok(ProcessGroup {
        raw: NonNull::new(out).expect("the call gave a group or a message"),
        rank,
        size,
        device,
    })
}

fn of_group(rank: usize, size: usize, error: LibtorchError) -> LibtorchError {
    match error {
        LibtorchError::Call { operation, message } => LibtorchError::Group {
            operation,
            rank,
            size,
            message,
        },
        other => other,
    }
}

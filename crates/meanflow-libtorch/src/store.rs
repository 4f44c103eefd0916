//! Where the processes of a group find each other: a few keys and their values, which one process serves.

use std::ffi::{CString, c_char};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::time::Duration;

use crate::call::check;
use crate::{LibtorchError, version};

/// The C++ side's store, behind a pointer.
#[repr(C)]
pub(crate) struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn mf_store_in_process(out: *mut *mut Opaque, timeout: i64) -> *mut c_char;
    fn mf_store_tcp(
        out: *mut *mut Opaque,
        host: *const c_char,
        port: u16,
        socket: *const i32,
        timeout: i64,
    ) -> *mut c_char;
    fn mf_store_scope(
        out: *mut *mut Opaque,
        store: *const Opaque,
        name: *const c_char,
    ) -> *mut c_char;
    fn mf_store_put(
        store: *mut Opaque,
        key: *const c_char,
        bytes: *const u8,
        count: i64,
    ) -> *mut c_char;
    fn mf_store_look(
        store: *mut Opaque,
        key: *const c_char,
        bytes: *mut u8,
        count: i64,
        found: *mut bool,
    ) -> *mut c_char;
    fn mf_store_free(store: *mut Opaque) -> *mut c_char;
}

/// Keys and values that the ranks of a group share, while they join it and afterwards.
///
/// Each rank waits at most the store's timeout for a key that another has not written.
#[derive(Debug)]
pub struct Store(NonNull<Opaque>);

// SAFETY: libtorch's stores lock whatever they do, and their references are counted atomically.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// A store for the threads of this process, each of which is a rank.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn in_process(timeout: Duration) -> Result<Self, LibtorchError> {
        // SAFETY: `out` outlives the call.
        made("make a store", |out| unsafe {
            mf_store_in_process(out, milliseconds(timeout))
        })
    }

    /// Serves a store on a socket, to this process and to others, until it is dropped. A socket on `127.0.0.1` is for processes
    /// of this machine only.
    ///
    /// # Errors
    /// If the socket has no address, or libtorch cannot serve on it.
    pub fn serve(listener: TcpListener, timeout: Duration) -> Result<Self, LibtorchError> {
        let operation = "serve a store";
        let address = listener
            .local_addr()
            .map_err(|error| LibtorchError::call(operation, error))?;
        let host = text(operation, &address.ip().to_string())?;
        let socket = listener.into_raw_fd();
        // SAFETY: `host` and `socket` outlive the call, which takes the socket.
        made(operation, |out| unsafe {
            mf_store_tcp(
                out,
                host.as_ptr(),
                address.port(),
                &raw const socket,
                milliseconds(timeout),
            )
        })
    }

    /// The store that another process serves at this port of this host; waits for it to begin.
    ///
    /// # Errors
    /// If nobody serves it within `timeout`.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, LibtorchError> {
        let operation = "connect to the store";
        let host = text(operation, host)?;
        // SAFETY: `host` outlives the call; no socket is passed.
        made(operation, |out| unsafe {
            mf_store_tcp(
                out,
                host.as_ptr(),
                port,
                std::ptr::null(),
                milliseconds(timeout),
            )
        })
    }

    /// A part of this store under a name, so that two groups do not take each other's keys.
    ///
    /// # Errors
    /// If the name holds a NUL.
    pub fn scope(&self, name: &str) -> Result<Self, LibtorchError> {
        let operation = "name a part of the store";
        let name = text(operation, name)?;
        // SAFETY: the store is live and `name` outlives the call.
        made(operation, |out| unsafe {
            mf_store_scope(out, self.as_ptr(), name.as_ptr())
        })
    }

    /// Puts numbers under a key, in the place of what was there.
    ///
    /// # Errors
    /// If the key holds a NUL, or the store is gone.
    pub(crate) fn put<const N: usize>(
        &self,
        key: &str,
        numbers: [u64; N],
    ) -> Result<(), LibtorchError> {
        let operation = "put a key into the store";
        let (key, bytes) = (text(operation, key)?, numbers.map(u64::to_le_bytes));
        let bytes = bytes.as_flattened();
        // SAFETY: the store is live; key and bytes outlive the call.
        check(operation, unsafe {
            mf_store_put(
                self.0.as_ptr(),
                key.as_ptr(),
                bytes.as_ptr(),
                bytes.len() as i64,
            )
        })
    }

    /// The numbers under a key; none where nobody has put as many there, for which it does not wait.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn look<const N: usize>(
        &self,
        key: &str,
    ) -> Result<Option<[u64; N]>, LibtorchError> {
        let operation = "look into the store";
        let key = text(operation, key)?;
        let (mut bytes, mut found) = ([[0_u8; 8]; N], false);
        // SAFETY: the store is live; key, bytes and `found` outlive the call, which writes at most `count` bytes.
        check(operation, unsafe {
            mf_store_look(
                self.0.as_ptr(),
                key.as_ptr(),
                bytes.as_flattened_mut().as_mut_ptr(),
                8 * N as i64,
                &raw mut found,
            )
        })?;
        Ok(found.then(|| bytes.map(u64::from_le_bytes)))
    }

    pub(crate) fn as_ptr(&self) -> *const Opaque {
        self.0.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the store is live and is not used again. A failure has nobody to go to.
        let _ = check("free a store", unsafe { mf_store_free(self.0.as_ptr()) });
    }
}

fn made(
    operation: &'static str,
    call: impl FnOnce(*mut *mut Opaque) -> *mut c_char,
) -> Result<Store, LibtorchError> {
    version::require()?;
    let mut out = std::ptr::null_mut();
    check(operation, call(&raw mut out))?;
    Ok(Store(
        NonNull::new(out).expect("the call gave a store or a message"),
    ))
}

pub(crate) fn milliseconds(timeout: Duration) -> i64 {
    // libtorch reads 0 as no limit.
    i64::try_from(timeout.as_millis()).map_or(i64::MAX, |whole| whole.max(1))
}

pub(crate) fn text(operation: &'static str, text: &str) -> Result<CString, LibtorchError> {
    CString::new(text).map_err(|error| LibtorchError::call(operation, error))
}

//! How a call to the C++ side ends, and how lists of tensors go over.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;

unsafe extern "C" {
    fn mf_free(message: *mut c_char) -> *mut c_char;
}

/// Takes the message of a call, if there is one, and frees it.
pub(crate) fn check(operation: &'static str, message: *mut c_char) -> Result<(), LibtorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a NUL-terminated string that the C++ side gives away; it is freed once, here, which cannot fail.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        mf_free(message);
        text
    };
    Err(LibtorchError::call(operation, text))
}

/// The result of a call that cannot fail for any argument a caller can give.
///
/// # Panics
/// With libtorch's own words, which [`recover`](crate::recover) turns into an error again.
pub fn done<T>(result: Result<T, LibtorchError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn handles(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    unsafe extern "C" {
        fn mf_fail(way: i32) -> *mut c_char;
    }

    #[test]
    fn every_kind_of_exception_becomes_a_message() {
        let ways = [
            "a refusal of libtorch",
            "a standard",
            "bad_alloc",
            "none of the standard",
        ];
        for (way, words) in ways.into_iter().enumerate() {
            // SAFETY: no memory is passed.
            let error = check("fail", unsafe { mf_fail(way as i32) }).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("libtorch could not fail: ") && text.contains(words),
                "{text}"
            );
        }
        // SAFETY: as above.
        check("fail", unsafe { mf_fail(4) }).unwrap();
    }

    fn sources(folder: &str) -> Vec<(PathBuf, String)> {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path, text));
                }
            }
        }
        found
    }

    /// The names behind each occurrence of `before`, up to the first character that is none of a name's.
    fn names<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
    }

    /// How a declaration begins; split, so that this line is none.
    const DECLARED: &str = concat!("    fn ", "mf_");

    /// An export without the guard would let an exception into Rust: there is one place that exports, and it guards.
    #[test]
    fn what_is_exported_is_guarded() {
        let mut exported = BTreeSet::new();
        for (path, text) in sources("cpp") {
            if path.extension().is_some_and(|extension| extension == "cu") {
                // Device code: nothing of it is called by Rust.
                continue;
            }
            let guard = path.ends_with("guarded.h");
            let linkages = text.matches("extern \"C\"").count();
            assert_eq!(
                linkages,
                usize::from(guard),
                "extern \"C\" in {}",
                path.display()
            );
            exported.extend(
                names(&text, "MF_EXPORT(")
                    .filter(|name| *name != "NAME")
                    .map(str::to_owned),
            );
        }
        let mut called = BTreeSet::new();
        for (path, text) in sources("src") {
            for declaration in text.split(DECLARED).skip(1) {
                let end = declaration.find(';').expect("a declaration ends");
                let result = declaration[..end].ends_with("-> *mut c_char");
                assert!(result, "mf_{} in {}", &declaration[..end], path.display());
            }
            called.extend(names(&text, DECLARED).map(|name| format!("mf_{name}")));
        }
        exported.remove("name");
        assert_eq!(
            exported, called,
            "exports on the left, what Rust declares on the right"
        );
    }
}

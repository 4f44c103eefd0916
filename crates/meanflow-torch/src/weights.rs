//! Weights in safetensors files: written whole or not at all, read strictly or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor, no_grad};

use crate::TorchError;
use crate::shim::host::write_bytes;

/// A header beyond this is not one of ours: 100,000 tensors need less.
const MAX_HEADER: u64 = 16 << 20;

/// One tensor as a file's header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its type, in the format's spelling: `F32`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<i64>,
}

/// What a weights file says about itself.
#[derive(Clone, Debug, Default)]
pub struct WeightsHeader {
    /// The tensors, by name.
    pub tensors: Vec<TensorInfo>,
    /// Free text by key.
    pub metadata: BTreeMap<String, String>,
}

/// Writes named tensors and metadata to a temporary file beside `path`, syncs it and renames it.
///
/// # Errors
/// If that fails; a file that was there before is then unchanged.
pub fn save(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: BTreeMap<String, String>,
) -> Result<(), TorchError> {
    let bytes: Vec<(Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(_, tensor)| encode(path, tensor))
        .collect::<Result<_, _>>()?;
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, _), (dtype, shape, data))| {
            Ok((name, TensorView::new(*dtype, shape.clone(), data)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| file_error(path, error.to_string()))?;
    // The library counts the entries, not the map that holds them: an empty map in an empty file is no JSON.
    let metadata = (!metadata.is_empty()).then(|| HashMap::from_iter(metadata));
    let file = safetensors::serialize(views, metadata)
        .map_err(|error| file_error(path, error.to_string()))?;
    write_whole(path, &sorted(&file))
}

/// The same file with the keys of its header in order: the library hashes them, and the same weights should be the
/// same bytes.
fn sorted(file: &[u8]) -> Vec<u8> {
    let length = file
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word) as usize);
    let (header, data) = file[8..].split_at(length);
    let header: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).expect("the library writes a header of objects");
    let mut header = serde_json::to_vec(&header).expect("a header is representable in JSON");
    // The format wants the data to start at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

fn encode(path: &Path, tensor: &Tensor) -> Result<(Dtype, Vec<usize>, Vec<u8>), TorchError> {
    let (dtype, width) = dtype_of(tensor.kind()).ok_or_else(|| {
        file_error(
            path,
            format!("cannot hold a tensor of type {:?}", tensor.kind()),
        )
    })?;
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut data = vec![0; tensor.numel() * width];
    tensor.copy_data_u8(&mut data, tensor.numel());
    Ok((
        dtype,
        tensor.size().iter().map(|side| *side as usize).collect(),
        data,
    ))
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TorchError> {
    let io = |operation: &'static str| {
        move |source| TorchError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("weights");
    let partial = path.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    let result = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(io("write"))
        .and_then(|()| fs::rename(&partial, path).map_err(io("replace")));
    if result.is_err() {
        // The reason of the failure matters more than a left-over that may not even exist.
        let _ = fs::remove_file(&partial);
    }
    result
}

/// Reads tensors, names and metadata of the header, and checks it against the file's length.
///
/// # Errors
/// If it is not a whole safetensors file.
pub fn header(path: &Path) -> Result<WeightsHeader, TorchError> {
    Ok(describe(&open(path)?.metadata))
}

/// A file with what its header says.
struct Opened {
    file: File,
    metadata: Metadata,
    /// Where the numbers of the tensors start.
    data: u64,
}

fn open(path: &Path) -> Result<Opened, TorchError> {
    refuse_pickles(path)?;
    let io = |source| TorchError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut length = [0; 8];
    if bytes < 8 {
        return Err(file_error(
            path,
            format!("a safetensors file has at least 8 bytes, this has {bytes}"),
        ));
    }
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > bytes {
        let limit = MAX_HEADER.min(bytes - 8);
        return Err(file_error(
            path,
            format!("not a safetensors file: a header of {length} bytes, at most {limit}"),
        ));
    }
    let mut json = vec![0; length as usize];
    file.read_exact(&mut json).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| file_error(path, format!("unreadable header: {error}")))?;
    let expected = metadata.data_len() as u64 + 8 + length;
    if expected != bytes {
        return Err(file_error(
            path,
            format!("truncated or overlong: expected {expected} bytes, got {bytes}"),
        ));
    }
    Ok(Opened {
        file,
        metadata,
        data: 8 + length,
    })
}

fn describe(metadata: &Metadata) -> WeightsHeader {
    let mut tensors: Vec<TensorInfo> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| TensorInfo {
            name,
            dtype: format!("{:?}", info.dtype),
            shape: info.shape.iter().map(|side| *side as i64).collect(),
        })
        .collect();
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    let metadata = metadata
        .metadata()
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    WeightsHeader { tensors, metadata }
}

/// Every tensor of a file, by name, in its own type on the CPU.
///
/// # Errors
/// If it is no whole safetensors file, or holds a type that libtorch has not.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, TorchError> {
    header(path)?;
    let bytes = fs::read(path).map_err(|source| TorchError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(decode(path, &bytes)?.1)
}

/// Header and tensors of the bytes of a file, such as one embedded in a program; `origin` stands in messages.
///
/// # Errors
/// As [`read`].
pub fn decode(
    origin: &Path,
    bytes: &[u8],
) -> Result<(WeightsHeader, BTreeMap<String, Tensor>), TorchError> {
    let problem = |error: safetensors::SafeTensorError| file_error(origin, error.to_string());
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(problem)?;
    let file = SafeTensors::deserialize(bytes).map_err(problem)?;
    let header = describe(&metadata);
    let mut tensors = BTreeMap::new();
    for TensorInfo { name, dtype, shape } in &header.tensors {
        let view = file.tensor(name).map_err(problem)?;
        let kind = kind_of(view.dtype()).ok_or_else(|| {
            file_error(
                origin,
                format!("{name}: libtorch has no tensors of type {dtype}"),
            )
        })?;
        tensors.insert(
            name.clone(),
            Tensor::from_data_size(view.data(), shape, kind),
        );
    }
    Ok((header, tensors))
}

/// Fills `tensors` from a file that has exactly these names, shapes and types, and returns the file's metadata.
///
/// # Errors
/// With every missing, unexpected or differing tensor; none of `tensors` is changed then. If reading itself fails, some are.
pub fn load_strict(
    path: &Path,
    tensors: &[(String, Tensor)],
) -> Result<BTreeMap<String, String>, TorchError> {
    let mut opened = open(path)?;
    let header = describe(&opened.metadata);
    let problems = differences(&header, tensors);
    if !problems.is_empty() {
        return Err(TorchError::Weights {
            path: path.to_owned(),
            problems,
        });
    }
    for (name, tensor) in tensors {
        let read = fill(&mut opened, name, tensor)?;
        read.map_err(|source| TorchError::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(header.metadata)
}

/// Reads the numbers of a tensor, into its own memory where it lies there as in the file.
fn fill(opened: &mut Opened, name: &str, tensor: &Tensor) -> Result<io::Result<()>, TorchError> {
    let info = opened
        .metadata
        .info(name)
        .expect("what is missing was refused");
    let place = SeekFrom::Start(opened.data + info.data_offsets.0 as u64);
    let mut read = |bytes: &mut [u8]| {
        opened.file.seek(place)?;
        opened.file.read_exact(bytes)
    };
    if tensor.device() == Device::Cpu && tensor.is_contiguous() {
        return write_bytes(tensor, read);
    }
    let staged = Tensor::empty(tensor.size(), (tensor.kind(), Device::Cpu));
    let result = write_bytes(&staged, &mut read)?;
    no_grad(|| tensor.shallow_clone().copy_(&staged));
    Ok(result)
}

fn differences(header: &WeightsHeader, tensors: &[(String, Tensor)]) -> Vec<String> {
    let mut there: BTreeMap<&str, &TensorInfo> = header
        .tensors
        .iter()
        .map(|info| (info.name.as_str(), info))
        .collect();
    let mut problems = Vec::new();
    for (name, tensor) in tensors {
        let (shape, dtype) = (
            tensor.size(),
            dtype_of(tensor.kind()).map(|(dtype, _)| format!("{dtype:?}")),
        );
        match there.remove(name.as_str()) {
            None => problems.push(format!("missing: {name} {shape:?}")),
            Some(info) if info.shape != shape => {
                problems.push(format!(
                    "{name}: expected shape {shape:?}, got {:?}",
                    info.shape
                ));
            }
            Some(info) if Some(&info.dtype) != dtype.as_ref() => {
                problems.push(format!(
                    "{name}: expected type {}, got {}",
                    dtype.unwrap_or_default(),
                    info.dtype
                ));
            }
            Some(_) => {}
        }
    }
    problems.extend(
        there
            .values()
            .map(|info| format!("unexpected: {} {:?}", info.name, info.shape)),
    );
    problems
}

/// Files that may run code when they are read are never opened.
fn refuse_pickles(path: &Path) -> Result<(), TorchError> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    if ["pt", "pth", "ckpt", "pkl", "pickle", "bin"].contains(&extension) {
        let problem = format!(
            "a .{extension} file is a pickle, which can run code when it is read; convert it where you trust it, for \
             example with safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"model.safetensors\")"
        );
        return Err(file_error(path, problem));
    }
    Ok(())
}

fn file_error(path: &Path, problem: String) -> TorchError {
    TorchError::File {
        path: path.to_owned(),
        problem,
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    let kinds = [
        Kind::Float,
        Kind::Double,
        Kind::BFloat16,
        Kind::Half,
        Kind::Int64,
        Kind::Uint8,
    ];
    kinds
        .into_iter()
        .find(|kind| dtype_of(*kind).is_some_and(|(known, _)| known == dtype))
}

fn dtype_of(kind: Kind) -> Option<(Dtype, usize)> {
    Some(match kind {
        Kind::Float => (Dtype::F32, 4),
        Kind::Double => (Dtype::F64, 8),
        Kind::BFloat16 => (Dtype::BF16, 2),
        Kind::Half => (Dtype::F16, 2),
        Kind::Int64 => (Dtype::I64, 8),
        Kind::Uint8 => (Dtype::U8, 1),
        _ => return None,
    })
}

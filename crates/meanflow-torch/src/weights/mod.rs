//! Weights in safetensors files: written whole or not at all, read strictly or not at all.

pub(crate) mod content;
pub mod convert;
pub mod init_from;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use meanflow_files::{Durability, SafetensorsError, SafetensorsHeader, Sha256, replace};
use meanflow_libtorch::read_into;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

use crate::TorchError;
use content::{ContentHash, UNKNOWN, with_hash};

/// A header beyond this is not one of ours: 100,000 tensors need less.
const MAX_HEADER: u64 = 16 << 20;

/// As many bytes of a tensor are on their way to a file, or back, at a time.
const PIECE: usize = 1 << 20;

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
    /// Free text by key, without the hash.
    pub metadata: BTreeMap<String, String>,
    /// The recorded SHA-256 of the content; none in files of other programs and of early versions. Reading the header does
    /// not compare it.
    pub content: Option<String>,
}

/// Whether a reader compares the content of a file with the hash that is recorded in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// It does, where there is a hash; files of other programs and of early versions have none.
    #[default]
    Content,
    /// It does not: reading is faster, and damage to the numbers is not noticed.
    Nothing,
}

/// Writes named tensors and metadata to a temporary file beside `path`, syncs it and renames it. Beside the metadata a hash
/// of all content is written, which every reader compares.
///
/// Of a tensor on the CPU no more than a mebibyte is copied at a time, of another the whole.
///
/// # Errors
/// If that fails; a file that was there before is then unchanged.
///
/// ```
/// use meanflow_torch::{Tensor, weights};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("some.safetensors");
/// let tensors = [("a.weight".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0]))];
/// weights::save(&path, &tensors, Default::default())?;
/// assert_eq!(weights::read(&path)?["a.weight"], tensors[0].1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: BTreeMap<String, String>,
) -> Result<(), TorchError> {
    write(path, tensors, metadata).map(drop)
}

/// As [`save`], and then reads the file back and compares every byte with what was to be written. Returns its length and its
/// SHA-256.
///
/// # Errors
/// As [`save`], and [`TorchError::File`] where the file has other bytes.
pub fn save_compared(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: BTreeMap<String, String>,
) -> Result<(u64, String), TorchError> {
    let (layout, header) = write(path, tensors, metadata)?;
    layout.compare(path, &header)
}

/// What was written: the tensors in their order behind this header.
fn write<'a>(
    path: &Path,
    tensors: &'a [(String, Tensor)],
    metadata: BTreeMap<String, String>,
) -> Result<(Layout<'a>, Vec<u8>), TorchError> {
    let io = |source| TorchError::Io {
        operation: "write",
        path: path.to_owned(),
        source,
    };
    let layout = Layout::of(path, tensors)?;
    let mut header = Vec::new();
    replace(path, Durability::Synced, io, |file| {
        header = layout.write(file, path, metadata)?;
        Ok(())
    })?;
    Ok((layout, header))
}

/// The tensors of a file in the order of their numbers.
struct Layout<'a> {
    entries: Vec<(&'a str, Dtype, &'a Tensor)>,
}

impl<'a> Layout<'a> {
    /// Wide types first, so that every tensor is aligned; then by name.
    fn of(path: &Path, tensors: &'a [(String, Tensor)]) -> Result<Self, TorchError> {
        let mut entries = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let (dtype, _) = dtype_of(tensor.kind()).ok_or_else(|| {
                let kind = tensor.kind();
                file_error(path, format!("cannot hold a tensor of type {kind:?}"))
            })?;
            entries.push((name.as_str(), dtype, tensor));
        }
        entries.sort_unstable_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(file_error(
                path,
                format!("two tensors called {}", pair[0].0),
            ));
        }
        Ok(Self { entries })
    }

    /// Writes the file, first without the hash, which is known when all is written. Returns the header that it got.
    fn write(
        &self,
        file: &mut (impl Write + Seek),
        path: &Path,
        metadata: BTreeMap<String, String>,
    ) -> Result<Vec<u8>, TorchError> {
        let io = |source| TorchError::Io {
            operation: "write",
            path: path.to_owned(),
            source,
        };
        let header = self.header(&with_hash(metadata.clone(), UNKNOWN));
        file.write_all(&header).map_err(io)?;
        let described = self.entries.iter().map(|(name, dtype, tensor)| {
            let shape = tensor.size().iter().map(|side| *side as u64).collect();
            (*name, dtype_name(*dtype), shape)
        });
        let mut hash = ContentHash::new(&metadata, described);
        self.each_piece(|bytes| {
            hash.update(bytes);
            file.write_all(bytes).map_err(io)
        })?;
        let header = self.header(&with_hash(metadata, &hash.finish()));
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        Ok(header)
    }

    /// Compares a file with this header and the tensors, byte by byte. Returns its length and its SHA-256.
    fn compare(&self, path: &Path, header: &[u8]) -> Result<(u64, String), TorchError> {
        let io = |source| TorchError::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let (mut hash, mut length, mut there) = (Sha256::new(), 0, Vec::new());
        let mut expect = |bytes: &[u8], and_the_end: bool| {
            there.clear();
            let count = bytes.len() as u64 + u64::from(and_the_end);
            (&mut file)
                .take(count)
                .read_to_end(&mut there)
                .map_err(io)?;
            hash.update(bytes);
            length += bytes.len() as u64;
            match there == bytes {
                true => Ok(()),
                false => Err(file_error(
                    path,
                    "damaged: it has other bytes than were written".into(),
                )),
            }
        };
        expect(header, false)?;
        self.each_piece(|bytes| expect(bytes, false))?;
        expect(&[], true)?;
        Ok((length, hash.finish()))
    }

    /// The bytes of all tensors in their order, a piece at a time.
    fn each_piece(
        &self,
        mut work: impl FnMut(&[u8]) -> Result<(), TorchError>,
    ) -> Result<(), TorchError> {
        let mut buffer = Vec::new();
        for (_, _, tensor) in &self.entries {
            let width = dtype_of(tensor.kind()).map_or(1, |(_, width)| width);
            let tensor = tensor.detach().to_device(Device::Cpu).reshape([-1]);
            for piece in tensor.split((PIECE / width) as i64, 0) {
                buffer.resize(piece.numel() * width, 0);
                piece.copy_data_u8(&mut buffer, piece.numel());
                work(&buffer)?;
            }
        }
        Ok(())
    }

    /// Length and text of the header, its keys in order: the same weights are the same bytes.
    fn header(&self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let mut entries = BTreeMap::from([("__metadata__", json!(metadata))]);
        let mut start = 0;
        for (name, dtype, tensor) in &self.entries {
            let end =
                start + tensor.numel() * dtype_of(tensor.kind()).map_or(0, |(_, width)| width);
            let entry = json!({
                "dtype": dtype_name(*dtype), "shape": tensor.size(), "data_offsets": [start, end],
            });
            entries.insert(name, entry);
            start = end;
        }
        let mut header = serde_json::to_vec(&entries).expect("a header is representable in JSON");
        // The format wants the data to start at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header].concat()
    }
}

/// Compares the content of a file with the hash that is recorded in it. Returns the hash, or nothing for a file without one.
///
/// # Errors
/// If they differ, or the file cannot be read.
pub fn verify(path: &Path) -> Result<Option<String>, TorchError> {
    compare_content(path, &mut open(path)?)
}

fn compare_content(path: &Path, opened: &mut Opened) -> Result<Option<String>, TorchError> {
    let all = all_metadata(&opened.metadata);
    let recorded = content::recorded(&all).map_err(|problem| file_error(path, problem))?;
    let Some(recorded) = recorded else {
        return Ok(None);
    };
    let io = |source| TorchError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    };
    let mut hash = content_hash(&all, &opened.metadata);
    let mut buffer = vec![0; 1 << 20];
    opened.file.seek(SeekFrom::Start(opened.data)).map_err(io)?;
    loop {
        let read = opened.file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    judged(path, hash, recorded).map(Some)
}

/// The recorded hash, if it is that of the content.
fn judged(path: &Path, hash: ContentHash, recorded: &str) -> Result<String, TorchError> {
    let hash = hash.finish();
    if hash == recorded {
        return Ok(hash);
    }
    let problem = format!(
        "damaged: the content has the SHA-256 {hash}, and {recorded} is recorded in the file"
    );
    Err(file_error(path, problem))
}

/// The hash of a header; the numbers of the tensors are to follow.
fn content_hash(all: &BTreeMap<String, String>, metadata: &Metadata) -> ContentHash {
    let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
    tensors.sort_by(|(one, first), (other, second)| {
        (first.data_offsets, one).cmp(&(second.data_offsets, other))
    });
    let described = tensors.iter().map(|(name, info)| {
        let shape = info.shape.iter().map(|side| *side as u64).collect();
        (name.as_str(), dtype_name(info.dtype), shape)
    });
    ContentHash::new(all, described)
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
    // Looked at first: opening a pipe waits for its writer already.
    if !fs::metadata(path).map_err(io)?.is_file() {
        let text = "expected a safetensors file, got a folder, a pipe or a device";
        return Err(file_error(path, text.to_owned()));
    }
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let header = SafetensorsHeader::read(&mut file, length, MAX_HEADER);
    let SafetensorsHeader { metadata, start } = header.map_err(|error| match error {
        SafetensorsError::Read(source) => io(source),
        error => file_error(path, error.to_string()),
    })?;
    Ok(Opened {
        file,
        metadata,
        data: start,
    })
}

fn describe(metadata: &Metadata) -> WeightsHeader {
    let mut tensors: Vec<TensorInfo> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| TensorInfo {
            name,
            dtype: dtype_name(info.dtype).to_owned(),
            shape: info.shape.iter().map(|side| *side as i64).collect(),
        })
        .collect();
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    let mut metadata = all_metadata(metadata);
    let content = metadata.remove(content::HASH_KEY);
    metadata.remove(content::RULE_KEY);
    WeightsHeader {
        tensors,
        metadata,
        content,
    }
}

/// The metadata, that of the hash too.
fn all_metadata(metadata: &Metadata) -> BTreeMap<String, String> {
    let entries = metadata.metadata().iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Every tensor of a file, by name, in its own type on the CPU.
///
/// # Errors
/// If it is no whole safetensors file, holds a type that libtorch has not, or is not what its hash says.
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
    let all = all_metadata(&metadata);
    let recorded = content::recorded(&all).map_err(|problem| file_error(origin, problem))?;
    if let Some(recorded) = recorded {
        let mut hash = content_hash(&all, &metadata);
        hash.update(&bytes[bytes.len() - metadata.data_len()..]);
        judged(origin, hash, recorded)?;
    }
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
/// With every missing, unexpected or differing tensor, or if the content is not what its hash says; none of `tensors` is
/// changed then. If reading itself fails, some are.
pub fn load_strict(
    path: &Path,
    tensors: &[(String, Tensor)],
) -> Result<BTreeMap<String, String>, TorchError> {
    load_strict_with(path, tensors, Verify::Content)
}

/// As [`load_strict`], with or without the comparison of the hash.
///
/// # Errors
/// As [`load_strict`].
pub fn load_strict_with(
    path: &Path,
    tensors: &[(String, Tensor)],
    verify: Verify,
) -> Result<BTreeMap<String, String>, TorchError> {
    let mut opened = open(path)?;
    let header = describe(&opened.metadata);
    fits(path, &header, tensors)?;
    if verify == Verify::Content {
        compare_content(path, &mut opened)?;
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
    if let Err(error) = opened.file.seek(place) {
        return Ok(Err(error));
    }
    if tensor.device() == Device::Cpu && tensor.is_contiguous() {
        return Ok(read_into(tensor, &mut opened.file)?);
    }
    let staged = Tensor::empty(tensor.size(), (tensor.kind(), Device::Cpu));
    let result = read_into(&staged, &mut opened.file)?;
    no_grad(|| tensor.shallow_clone().copy_(&staged));
    Ok(result)
}

/// Whether a file with this header has exactly these tensors; only names, shapes and types are looked at.
///
/// # Errors
/// With every missing, unexpected or differing tensor.
pub(crate) fn fits(
    path: &Path,
    header: &WeightsHeader,
    tensors: &[(String, Tensor)],
) -> Result<(), TorchError> {
    let problems = differences(header, tensors);
    if problems.is_empty() {
        return Ok(());
    }
    Err(TorchError::Weights {
        path: path.to_owned(),
        problems,
    })
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
            dtype_of(tensor.kind()).map(|(dtype, _)| dtype_name(dtype)),
        );
        match there.remove(name.as_str()) {
            None => problems.push(format!("missing: {name} {shape:?}")),
            Some(info) if info.shape != shape => {
                problems.push(format!(
                    "{name}: expected shape {shape:?}, got {:?}",
                    info.shape
                ));
            }
            Some(info) if Some(info.dtype.as_str()) != dtype => {
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

/// The format's spelling of a type. Those that libtorch has not are told apart, too: they are part of the hash.
fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "F64",
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
        Dtype::BF16 => "BF16",
        Dtype::I64 => "I64",
        Dtype::I32 => "I32",
        Dtype::I16 => "I16",
        Dtype::I8 => "I8",
        Dtype::U64 => "U64",
        Dtype::U32 => "U32",
        Dtype::U16 => "U16",
        Dtype::U8 => "U8",
        Dtype::BOOL => "BOOL",
        _ => "another type",
    }
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

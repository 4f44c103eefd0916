//! A disk that keeps what was synced, and of the rest whatever it likes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meanflow_files::layer::Operation;

/// Files and folders below a root, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Folder(BTreeMap<String, usize>),
}

/// The root folder.
const ROOT: usize = 0;

/// The parts of a change, each of which a disk keeps or loses by itself.
#[derive(Clone, Debug)]
enum Part {
    /// Bytes of a file.
    Data {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// An entry of a folder.
    Link {
        folder: usize,
        name: String,
        node: usize,
    },
    /// The end of an entry.
    Unlink { folder: usize, name: String },
    /// An entry that becomes another one in the same folder.
    Rename {
        folder: usize,
        from: String,
        to: String,
        node: usize,
    },
    /// All parts of a file or folder until now are on the disk.
    Sync(usize),
}

/// What a disk does with a part that was not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Kept,
    Lost,
    /// The first half of the bytes is kept.
    Torn,
    /// The length is kept, and the bytes are zeros.
    Zeroed,
}

/// What becomes of every part that was not synced.
#[derive(Clone, Debug)]
pub(super) struct Choice(Vec<Fate>);

impl Choice {
    pub(super) fn all(pending: &[usize]) -> Self {
        Self(vec![Fate::Kept; pending.len()])
    }

    pub(super) fn none(pending: &[usize]) -> Self {
        Self(vec![Fate::Lost; pending.len()])
    }

    pub(super) fn with(mut self, place: usize) -> Self {
        self.0[place] = Fate::Kept;
        self
    }

    pub(super) fn without(mut self, place: usize) -> Self {
        self.0[place] = Fate::Lost;
        self
    }

    pub(super) fn torn(mut self, place: usize) -> Self {
        self.0[place] = Fate::Torn;
        self
    }

    pub(super) fn random(pending: &[usize], mut below: impl FnMut(u64) -> u64) -> Self {
        let fates = [Fate::Kept, Fate::Lost, Fate::Torn, Fate::Zeroed];
        let fate = |_: &usize| fates[below(fates.len() as u64) as usize];
        Self(pending.iter().map(fate).collect())
    }
}

impl Disk {
    /// What is below a folder.
    pub(super) fn read(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.read_folder(root);
        disk
    }

    fn read_folder(&mut self, path: &Path) -> usize {
        let place = self.add(Node::Folder(BTreeMap::new()));
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let node = if entry.path().is_dir() {
                self.read_folder(&entry.path())
            } else {
                self.add(Node::File(fs::read(entry.path()).unwrap()))
            };
            entries.insert(entry.file_name().into_string().unwrap(), node);
        }
        self.nodes[place] = Node::Folder(entries);
        place
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn entries(&mut self, folder: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[folder] {
            Node::Folder(entries) => entries,
            Node::File(_) => panic!("a folder was expected"),
        }
    }

    /// The places of the parts of these changes, made below `root`, that are not on the disk yet.
    pub(super) fn pending(&self, changes: &[Operation], root: &Path) -> Vec<usize> {
        let (_, parts) = self.parts(changes, root);
        (0..parts.len())
            .filter(|place| !is_durable(&parts, *place))
            .collect()
    }

    /// Puts together, in the folder `place`, what the disk holds after these changes below `root` and a power cut.
    pub(super) fn write(&self, changes: &[Operation], choice: &Choice, root: &Path, place: &Path) {
        let (mut disk, parts) = self.parts(changes, root);
        let mut fates = choice.0.iter();
        for (place, part) in parts.iter().enumerate() {
            let fate = if is_durable(&parts, place) {
                Fate::Kept
            } else {
                *fates.next().expect("a fate a part that is not synced")
            };
            disk.apply(part, fate);
        }
        disk.materialise(ROOT, place);
    }

    /// This disk with the nodes that the changes make, which are empty and nowhere, and the parts of the changes.
    fn parts(&self, changes: &[Operation], root: &Path) -> (Self, Vec<Part>) {
        // What a process sees, on which the changes are made at once.
        let (mut seen, mut parts) = (self.clone(), Vec::new());
        for change in changes {
            let begun = parts.len();
            seen.split(change, root, &mut parts);
            for part in &parts[begun..] {
                seen.apply(part, Fate::Kept);
            }
        }
        let mut disk = self.clone();
        for node in &seen.nodes[self.nodes.len()..] {
            disk.nodes.push(match node {
                Node::File(_) => Node::File(Vec::new()),
                Node::Folder(_) => Node::Folder(BTreeMap::new()),
            });
        }
        (disk, parts)
    }

    fn split(&mut self, change: &Operation, root: &Path, parts: &mut Vec<Part>) {
        match change {
            Operation::CreateFile(path) => {
                let node = self.add(Node::File(Vec::new()));
                let (folder, name) = self.parent(path, root);
                parts.push(Part::Link { folder, name, node });
            }
            Operation::CreateFolder(path) => {
                let node = self.add(Node::Folder(BTreeMap::new()));
                let (folder, name) = self.parent(path, root);
                parts.push(Part::Link { folder, name, node });
            }
            Operation::Write {
                path,
                offset,
                bytes,
            } => parts.push(Part::Data {
                file: self.find(path, root),
                offset: *offset as usize,
                bytes: bytes.clone(),
            }),
            Operation::SyncFile(path) | Operation::SyncFolder(path) => {
                parts.push(Part::Sync(self.find(path, root)));
            }
            Operation::Rename { from, to } => {
                let node = self.find(from, root);
                let (folder, from) = self.parent(from, root);
                let (target, to) = self.parent(to, root);
                assert_eq!(folder, target, "names change within a folder");
                parts.push(Part::Rename {
                    folder,
                    from,
                    to,
                    node,
                });
            }
            Operation::RemoveFile(path) => {
                let (folder, name) = self.parent(path, root);
                parts.push(Part::Unlink { folder, name });
            }
            Operation::RemoveFolder(path) => {
                let node = self.find(path, root);
                for name in self.entries(node).keys().cloned().collect::<Vec<_>>() {
                    parts.push(Part::Unlink { folder: node, name });
                }
                let (folder, name) = self.parent(path, root);
                parts.push(Part::Unlink { folder, name });
            }
        }
    }

    fn find(&mut self, path: &Path, root: &Path) -> usize {
        let inside = path.strip_prefix(root).expect("changes below the root");
        inside.iter().fold(ROOT, |folder, name| {
            let name = name.to_str().unwrap();
            self.entries(folder)[name]
        })
    }

    fn parent(&mut self, path: &Path, root: &Path) -> (usize, String) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.find(path.parent().unwrap(), root), name)
    }

    fn apply(&mut self, part: &Part, fate: Fate) {
        match part {
            Part::Data {
                file,
                offset,
                bytes,
            } => self.put(*file, *offset, &left_of(bytes, fate)),
            _ if fate == Fate::Lost => {}
            Part::Link { folder, name, node } => {
                self.entries(*folder).insert(name.clone(), *node);
            }
            Part::Unlink { folder, name } => {
                self.entries(*folder).remove(name);
            }
            Part::Rename {
                folder,
                from,
                to,
                node,
            } => {
                let entries = self.entries(*folder);
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
            Part::Sync(_) => {}
        }
    }

    fn put(&mut self, file: usize, offset: usize, bytes: &[u8]) {
        let Node::File(content) = &mut self.nodes[file] else {
            panic!("a file was expected");
        };
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(bytes);
    }

    fn materialise(&self, node: usize, path: &Path) {
        match &self.nodes[node] {
            Node::File(bytes) => fs::write(path, bytes).unwrap(),
            Node::Folder(entries) => {
                fs::create_dir(path).unwrap();
                for (name, node) in entries {
                    self.materialise(*node, &path.join(name));
                }
            }
        }
    }
}

/// The bytes that are left of a write.
fn left_of(bytes: &[u8], fate: Fate) -> Vec<u8> {
    match fate {
        Fate::Kept => bytes.to_vec(),
        Fate::Lost => Vec::new(),
        Fate::Torn => bytes[..bytes.len() / 2].to_vec(),
        Fate::Zeroed => vec![0; bytes.len()],
    }
}

/// Whether a later part puts this one on the disk.
fn is_durable(parts: &[Part], place: usize) -> bool {
    let node = match &parts[place] {
        Part::Data { file, .. } => *file,
        Part::Link { folder, .. } | Part::Unlink { folder, .. } | Part::Rename { folder, .. } => {
            *folder
        }
        Part::Sync(_) => return true,
    };
    let is_sync = |part: &Part| matches!(part, Part::Sync(synced) if *synced == node);
    parts[place..].iter().any(is_sync)
}

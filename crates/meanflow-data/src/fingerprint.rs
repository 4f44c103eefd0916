//! A hash that tells two data sets apart.

use meanflow_files::Sha256;

/// What was hashed until now; every part is preceded by its length, so that no two sequences of parts are the same.
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// A hash of data of a kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.text(kind);
        hash
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn numbers(&mut self, numbers: &[u64]) {
        self.words(numbers, |number| number.to_le_bytes());
    }

    pub(crate) fn sizes(&mut self, sizes: &[usize]) {
        self.words(sizes, |&size| (size as u64).to_le_bytes());
    }

    pub(crate) fn labels(&mut self, labels: &[i64]) {
        self.words(labels, |label| label.to_le_bytes());
    }

    pub(crate) fn values(&mut self, values: &[f32]) {
        self.words(values, |value| value.to_le_bytes());
    }

    pub(crate) fn names(&mut self, names: Option<&[String]>) {
        let names = names.unwrap_or_default();
        self.sizes(&[names.len()]);
        names.iter().for_each(|name| self.text(name));
    }

    /// How many values there are, and each as `B` bytes.
    fn words<const B: usize, T>(&mut self, values: &[T], encode: impl Fn(&T) -> [u8; B]) {
        self.0.update((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.0.update(encode(value)));
    }

    /// The hash in lower-case hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finish()
    }
}

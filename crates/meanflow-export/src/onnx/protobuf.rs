//! The wire format of protocol buffers, as far as ONNX needs it: numbers, texts and messages, written.
//!
//! ONNX is ten messages. A crate for the format would bring a compiler for its schema and build code of some thousands of lines; here the
//! format is a page, and the bytes of weights go from the tensor into the file without a second copy.

/// How a field is written.
const VARINT: u64 = 0;
const FIXED32: u64 = 5;
const BYTES: u64 = 2;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A message of these fields.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An integer, a flag or a number of an enumeration.
    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.tag(field, VARINT);
        varint(&mut self.0, value as u64);
        self
    }

    /// A number of 32 bits.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.tag(field, FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A text.
    pub(super) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message in this one.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a message is built and put into another"
    )]
    pub(super) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// One field for each of several values.
    pub(super) fn each<T>(
        self,
        values: impl IntoIterator<Item = T>,
        add: impl Fn(Self, T) -> Self,
    ) -> Self {
        values.into_iter().fold(self, add)
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.announced(field, bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// The beginning of a field of so many bytes, which are to follow.
    pub(super) fn announced(&mut self, field: u64, bytes: usize) {
        self.tag(field, BYTES);
        varint(&mut self.0, bytes as u64);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        varint(&mut self.0, field << 3 | wire);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own documentation: 150, "testing", and a message that holds 150.
    #[test]
    fn fields_have_the_documented_bytes() {
        assert_eq!(Message::new().int(1, 150).0, [0x08, 0x96, 0x01]);
        let text = Message::new().text(2, "testing");
        assert_eq!(
            text.0,
            [0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g']
        );
        let outer = Message::new().message(3, Message::new().int(1, 150));
        assert_eq!(outer.0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }
}

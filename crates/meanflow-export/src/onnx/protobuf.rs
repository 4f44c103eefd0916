//! The wire format of protocol buffers, as far as ONNX needs it: numbers, texts and messages, written and read.
//!
//! ONNX is ten messages. A crate for the format would bring a compiler for its schema and build code of some thousands of lines; here the
//! format is a page, and the bytes of weights go from the tensor into the file without a second copy.

/// How a field is written.
const VARINT: u64 = 0;
const FIXED32: u64 = 5;
const FIXED64: u64 = 1;
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

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    /// An integer.
    Int(i64),
    /// A number of 32 bits.
    Float(f32),
    /// A text or message.
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    /// None in the place of a field is a message that ends too early, or that holds something else.
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            VARINT => Field::Int(self.varint()? as i64),
            FIXED32 => Field::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            FIXED64 => Field::Bytes(self.take(8)?),
            BYTES => {
                let bytes = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(bytes)?)
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
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

    #[test]
    fn what_is_written_is_read() {
        let numbers = [0, 1, -1, 127, 128, i64::MAX, i64::MIN];
        let message = Message::new()
            .each(numbers, |all, number| all.int(7, number))
            .float(8, -0.5);
        let fields: Vec<_> = Fields(&message.0).map(Option::unwrap).collect();
        let expected = numbers.map(|number| (7, Field::Int(number)));
        assert_eq!(fields[..7], expected);
        assert_eq!(fields[7], (8, Field::Float(-0.5)));
    }

    #[test]
    fn a_message_that_is_cut_off_is_seen() {
        let message = Message::new().text(2, "testing");
        for length in 1..message.0.len() {
            assert_eq!(Fields(&message.0[..length]).last(), Some(None), "{length}");
        }
        // A length beyond the end of memory, and a number of more than ten bytes.
        assert_eq!(
            Fields(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).last(),
            Some(None)
        );
        assert_eq!(Fields(&[0xff; 11]).last(), Some(None));
    }
}

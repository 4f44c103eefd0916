//! TensorBoard's events in the wire format of protocol buffers. The numbers are those of the fields in `event.proto`,
//! `summary.proto` and `tensor.proto`.

use super::histogram::Histogram;

/// The version of the format that a file opens with.
const FILE_VERSION: &str = "brain.Event:2";
/// `DT_STRING` of `types.proto`.
const STRING: u64 = 7;
/// `SessionLog.START`.
const START: u64 = 1;

/// A picture as it lies in a file.
pub(super) struct Image<'a> {
    pub(super) height: usize,
    pub(super) width: usize,
    /// 1 for grey, 3 for colour.
    pub(super) channels: usize,
    pub(super) png: &'a [u8],
}

/// What an event says.
pub(super) enum Content<'a> {
    /// The first event of a file.
    Version,
    /// Training goes on from here: what a reader has of this step and later ones is void.
    Restart,
    /// Numbers with their names.
    Scalars(&'a [(String, f64)]),
    /// A distribution with its name.
    Histogram(&'a str, &'a Histogram),
    /// A picture with its name.
    Image(&'a str, Image<'a>),
    /// A text in Markdown with its name.
    Text(&'a str, &'a str),
}

/// An event at this time, in seconds since 1970, and after this step.
pub(super) fn encoded(seconds: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    let mut event = Message::default().double(1, seconds).varint(2, step);
    event = match content {
        Content::Version => event.bytes(3, FILE_VERSION.as_bytes()),
        Content::Restart => event.message(7, Message::default().varint(1, START)),
        Content::Scalars(scalars) => {
            let value = |(name, value): &(String, f64)| named(name).float(2, *value as f32);
            let values = scalars.iter().map(value);
            event.message(
                5,
                values.fold(Message::default(), |all, one| all.message(1, one)),
            )
        }
        Content::Histogram(name, histogram) => {
            let value = named(name).message(5, numbers(histogram));
            event.message(5, Message::default().message(1, value))
        }
        Content::Image(name, image) => {
            let picture = Message::default()
                .varint(1, image.height as u64)
                .varint(2, image.width as u64)
                .varint(3, image.channels as u64)
                .bytes(4, image.png);
            event.message(
                5,
                Message::default().message(1, named(name).message(4, picture)),
            )
        }
        Content::Text(name, text) => {
            let plugin = Message::default().bytes(1, b"text");
            let tensor = Message::default()
                .varint(1, STRING)
                .message(2, Message::default())
                .bytes(8, text.as_bytes());
            let value = named(name)
                .message(9, Message::default().message(1, plugin))
                .message(8, tensor);
            event.message(5, Message::default().message(1, value))
        }
    };
    event.0
}

/// A value of a summary with this tag.
fn named(tag: &str) -> Message {
    Message::default().bytes(1, tag.as_bytes())
}

/// A `HistogramProto`.
fn numbers(histogram: &Histogram) -> Message {
    Message::default()
        .double(1, histogram.min)
        .double(2, histogram.max)
        .double(3, histogram.count())
        .double(4, histogram.sum)
        .double(5, histogram.squares)
        .doubles(6, &histogram.limits)
        .doubles(7, &histogram.counts)
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, field: u64, value: u64) -> Self {
        self.push(field << 3);
        self.push(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Numbers one after the other in one field.
    fn doubles(self, field: u64, values: &[f64]) -> Self {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.bytes(field, &bytes)
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.push(field << 3 | 2);
        self.push(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a message is made to be part of one other"
    )]
    fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn push(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_bytes_of_the_wire_format() {
        // Protocol buffers, encoding: 150 is 96 01, and field 2 of type 2 has the tag 12.
        assert_eq!(Message::default().varint(1, 150).0, [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, b"testing").0;
        assert_eq!(text, b"\x12\x07testing");
        let event = encoded(0.5, 3, &Content::Scalars(&[("a".to_owned(), 1.0)]));
        let expected = [
            &[9][..],
            &0.5_f64.to_le_bytes(),
            &[16, 3, 42, 10, 10, 8, 10, 1, b'a', 21],
            &1.0_f32.to_le_bytes(),
        ];
        assert_eq!(event, expected.concat());
    }
}

//! Bytes with one to four changes: bits turned, bytes set, cut out, doubled or written over, numbers made large, the end cut
//! off. The changes follow from a stream of random numbers.

use meanflow_core::random::RngStream;

/// The bytes with one to four changes; never the same ones.
pub(crate) fn damaged(bytes: &[u8], stream: &mut RngStream) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    while damaged == bytes {
        for _ in 0..=stream.below(4) {
            change(&mut damaged, stream);
        }
    }
    damaged
}

/// How many inputs a test tries: `usual`, or as many as a long test asks for.
pub(crate) fn inputs(usual: usize) -> usize {
    let asked = std::env::var("MEANFLOW_SOAK_COUNT").ok();
    asked.map_or(usual, |text| text.parse().expect("a count"))
}

fn change(bytes: &mut Vec<u8>, stream: &mut RngStream) {
    let mut below = |limit: usize| stream.below(limit.max(1) as u64) as usize;
    if bytes.is_empty() {
        return bytes.push(below(256) as u8);
    }
    // Headers are short, and most that can go wrong is in them.
    let near = if below(2) == 0 { 64 } else { bytes.len() };
    let at = below(near.min(bytes.len()));
    let end = (at + 1 + below(16)).min(bytes.len());
    match below(8) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        5 => bytes[at..end].fill(if below(2) == 0 { 0xff } else { 0 }),
        6 => {
            let from = below(bytes.len() - (end - at) + 1);
            bytes.copy_within(from..from + end - at, at);
        }
        _ => {
            let number = [0x7fff_ffff_u32, 0xffff_ffff, 0x1_0000, 0x4000][below(4)];
            let words = [number.to_le_bytes(), number.to_be_bytes()];
            bytes.splice(at..(at + 4).min(bytes.len()), words[below(2)]);
        }
    }
}

//! Counter-based random streams: the draw of a seed, a purpose and a step can be repeated at any time.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) turns a
//! counter and a key into four random words. A stream is a key and the upper part of the counter, so there is no
//! state to save: a resumed run asks for the same stream again. Logarithm, sine and exponential come from `libm`,
//! in pure Rust, so the numbers do not depend on the platform.

use std::f64::consts::TAU;

/// What a stream is for. Different purposes never share numbers.
///
/// The numbers are part of every stored result: they are never changed or reused, only added to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u32)]
pub enum Purpose {
    /// The noise `e` of a training step.
    Noise = 1,
    /// The times (r, t) of a training step.
    Times = 2,
    /// The class dropout of a training step.
    Labels = 3,
    /// The initial parameters of a network.
    Init = 4,
    /// The order of the samples in an epoch.
    Order = 5,
    /// The augmentation of the data.
    Augment = 6,
    /// The noise a sample is made from.
    Latent = 7,
    /// Synthetic data.
    Data = 8,
    /// The units dropped in a training step.
    Dropout = 9,
    /// The subsets of samples that a metric is averaged over.
    Subsets = 10,
    /// The latents that are drawn from the normal law which an encoder gave.
    Posterior = 11,
    /// The noise that is added to a sample on its way back from data.
    Renoise = 12,
    /// The random signs of an estimated trace.
    Probes = 13,
    /// The noise over the width of a byte.
    Dequantise = 14,
}

/// A sequence of random numbers, fixed by a seed, a purpose and a step.
///
/// It has 2³⁴ words of 32 bits, then repeats.
///
/// ```
/// use meanflow_core::{Purpose, RngStream};
///
/// let mut noise = RngStream::new(42, Purpose::Noise, 1000);
/// let first = noise.normal();
/// assert_eq!(first, RngStream::new(42, Purpose::Noise, 1000).normal());
/// assert_ne!(first, RngStream::new(42, Purpose::Noise, 1001).normal());
/// ```
#[derive(Clone, Debug)]
pub struct RngStream {
    key: [u32; 2],
    /// Block index, purpose, step (low and high word).
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl RngStream {
    /// The beginning of a stream.
    pub fn new(seed: u64, purpose: Purpose, step: u64) -> Self {
        let [key, step] = [seed, step].map(|x| [x as u32, (x >> 32) as u32]);
        Self {
            key,
            counter: [0, purpose as u32, step[0], step[1]],
            block: [0; 4],
            used: 4,
        }
    }

    /// A uniform number in the open interval (0, 1), from 52 random bits.
    pub fn uniform(&mut self) -> f64 {
        // The half keeps both ends out; with 53 bits it would round up to 1.
        ((self.word64() >> 12) as f64 + 0.5) * (-52f64).exp2()
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        box_muller(radius, angle).0
    }

    /// A uniform integer in `0..n`, each exactly as likely as the others (Lemire 2019).
    ///
    /// # Panics
    /// If `n = 0`: there is no such integer.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no integer below 0");
        let uneven = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.word64()) * u128::from(n);
            if wide as u64 >= uneven {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Fills the slice with standard normal numbers, each from 32 random bits (so within ±6.7).
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let (radius, angle) = (unit(self.word()), unit(self.word()));
            let (cos, sin) = box_muller(radius, angle);
            pair[0] = cos as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = sin as f32;
            }
        }
    }

    /// Fills the slice with the numbers from `start` on of those that [`RngStream::fill_normal`] would give next, and stays
    /// where it is. It takes no longer for a later start.
    pub fn normals_from(&self, start: u64, mut out: &mut [f32]) {
        let mut stream = self.clone();
        // Two words make two numbers.
        stream.skip(start / 2 * 2);
        if start % 2 == 1 && !out.is_empty() {
            let mut pair = [0.0; 2];
            stream.fill_normal(&mut pair);
            out[0] = pair[1];
            out = &mut out[1..];
        }
        stream.fill_normal(out);
    }

    /// Fills the slice with uniform numbers in the open interval (0, 1), each from 23 random bits.
    pub fn fill_uniform(&mut self, out: &mut [f32]) {
        for x in out {
            *x = ((self.word() >> 9) as f32 + 0.5) * (-23f32).exp2();
        }
    }

    /// Puts the items in uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Leaves words out.
    fn skip(&mut self, words: u64) {
        let left = 4 - self.used as u64;
        if words <= left {
            self.used += words as usize;
            return;
        }
        self.counter[0] = self.counter[0].wrapping_add(((words - left) / 4) as u32);
        self.used = 4;
        for _ in 0..(words - left) % 4 {
            self.word();
        }
    }

    fn word64(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

/// The midpoint of one of 2³² cells of (0, 1).
fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (-32f64).exp2()
}

/// Two independent standard normal numbers from two uniform ones (Box and Muller 1958).
fn box_muller(radius: f64, angle: f64) -> (f64, f64) {
    let radius = (-2.0 * libm::log(radius)).sqrt();
    let (sin, cos) = libm::sincos(TAU * angle);
    (radius * cos, radius * sin)
}

/// Philox4x32 with ten rounds: four words from a counter and a key.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [
                key[0].wrapping_add(0x9E37_79B9),
                key[1].wrapping_add(0xBB67_AE85),
            ];
        }
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// The known answers published with Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        let all = u32::MAX;
        let known = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [all; 4],
                [all; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in known {
            assert_eq!(
                philox(counter, key),
                expected,
                "counter {counter:x?}, key {key:x?}"
            );
        }
    }
}

//! Hashing for tables that only the configuration fills: nobody who calls can put a key in, so nobody can make keys
//! collide, and a keyed hash would protect nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table filled once, from the configuration.
pub(in super::super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// Rotate, mix in, multiply, a word at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Multiply(u64);

/// Odd, and its bits are as good as random (the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Multiply {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // Tables look at the highest and at the lowest bits.
        self.0 ^ (self.0 >> 29)
    }
}

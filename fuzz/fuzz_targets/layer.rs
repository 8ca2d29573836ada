//! A layer's archive, applied to a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringfence::image::fuzz::layer(bytes));

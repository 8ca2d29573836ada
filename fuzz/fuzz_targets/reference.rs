//! References as users and manifests write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringfence::image::fuzz::reference(bytes));

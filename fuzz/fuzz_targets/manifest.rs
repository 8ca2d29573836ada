//! Manifests and indexes as registries send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringfence::image::fuzz::manifest(bytes));

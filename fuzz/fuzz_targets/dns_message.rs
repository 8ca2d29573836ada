//! Questions of a job and answers of a server, as its resolver reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringfence::fuzz::dns_message(bytes));

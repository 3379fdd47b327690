#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| orama_fuzz::targets::sql_script::check(bytes));

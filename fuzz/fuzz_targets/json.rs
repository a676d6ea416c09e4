#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    wsgate_fuzz::targets::json::run(input);
});

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    wsgate_fuzz::replay(wsgate_fuzz::targets::json::run)
}

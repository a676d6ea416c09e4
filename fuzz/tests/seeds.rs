//! The properties hold for the seeds, and for what is near to them: so each is run where no fuzzer is.

use wsgate_fuzz::{NAMED, Target};

fn valid(target: &Target, inputs: &[Vec<u8>]) -> usize {
    inputs.iter().filter(|input| (target.run)(input)).count()
}

#[test]
fn each_target_has_seeds_that_are_valid_and_others_that_are_not() {
    for target in NAMED {
        let seeds = (target.seeds)();
        let valid = valid(&target, &seeds);
        assert!(valid >= 2 && valid < seeds.len(), "{}: {valid} of {} are valid", target.name, seeds.len());
    }
}

#[test]
fn what_is_near_to_a_seed_keeps_the_properties() {
    for target in NAMED {
        for seed in (target.seeds)() {
            let step = (seed.len() / 60).max(1);
            for at in (0..seed.len()).step_by(step) {
                (target.run)(&seed[..at]);
                for bit in [0x01, 0x20, 0x80] {
                    let mut changed = seed.clone();
                    changed[at] ^= bit;
                    (target.run)(&changed);
                }
                let doubled = [&seed[..at], &seed[at.saturating_sub(9)..]].concat();
                (target.run)(&doubled);
            }
        }
    }
}

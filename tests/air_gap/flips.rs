//! Single bits that turn over on the way: a sample over the whole bundle. All of them, and of the format alone, are tried in the crate `bundle`.

use std::hash::{BuildHasher, Hasher, RandomState};

use testkit::{Random, number_from_environment, said};

use crate::hostile::Scene;
use crate::sides::{ok, refused, visible};
use crate::tarball::{BLOCK, SIGNATURE, Tarball};

const FLIPS: u64 = 64;

pub fn seed() -> u64 {
    let seed =
        number_from_environment("MIRROR_AIR_GAP_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("MIRROR_AIR_GAP_SEED={seed}");
    seed | 1
}

#[test]
fn a_bit_that_turned_over_is_refused() {
    if !crate::oracles::there_are_judges() {
        return;
    }
    let mut scene = Scene::signed();
    let mut random = Random::new(seed());
    let good = std::fs::read(&scene.good).unwrap();
    let places = Tarball::read(&scene.good).places();
    let mut now = visible(&scene.office, &scene.crates);
    let (mut is_in, file) = (false, scene.outside.on_stick("flipped.tar"));
    for number in 0..FLIPS {
        // half of them in what is small and would hardly be hit: headers, manifest, sums, signature
        let (name, start, size) = random.of(&places);
        let (header, content) = (*start..start + BLOCK, start + BLOCK..start + BLOCK + size);
        let at = match number % 4 {
            0 => header.start + random.next(BLOCK as u64) as usize,
            1 => content.start + random.next((*size).max(1) as u64) as usize,
            _ => random.next(good.len() as u64) as usize,
        };
        let bit = random.next(8);
        let what = format!("byte {at}, bit {bit}");
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        std::fs::write(&file, &bad).unwrap();
        scene.forget_staged();
        let output = scene.import(&file);
        let told = said(&output);
        if output.status.success() && !is_in {
            // nobody signs the first line of a signature: all the rest has to be as it was meant
            println!("{what}: harmless, in {name}");
            assert!(name == SIGNATURE && content.contains(&at), "{what}: {told}");
            is_in = true;
            now = visible(&scene.office, &scene.crates);
        } else if !is_in {
            refused(&output);
        }
        assert_eq!(visible(&scene.office, &scene.crates), now, "{what}: {told}");
        let rows = scene.log.grown(&scene.office);
        assert!(
            is_in || rows.iter().all(|row| row["result"] == "refused"),
            "{what}: {rows:?}"
        );
    }
    ok(&scene.office.run(&["verify"]));
    if is_in {
        scene.has_the_good_one()
    } else {
        scene.ends_well()
    }
}

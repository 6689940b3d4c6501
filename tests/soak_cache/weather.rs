//! What upstream does wrong, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use testkit::{Effect, FakeUpstream, Fault, NamedFault, Random};

/// What an upstream is like for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// All answers are right.
    Calm,
    /// One of three has a fault, any.
    Mixed,
    /// Nearly all have the same one.
    Storm(usize),
    /// It refuses connections.
    Down,
    /// Each fault once that takes half a minute.
    Stalling,
}

#[derive(Debug)]
struct Sky {
    mood: Mood,
    random: Random,
    faults: Vec<NamedFault>,
    stalls: Vec<NamedFault>,
    played: BTreeMap<&'static str, u64>,
}

impl Sky {
    fn choose(&mut self) -> Option<Fault> {
        let named = match self.mood {
            Mood::Calm | Mood::Down => None,
            Mood::Mixed if self.random.next(3) == 0 => Some(self.random.of(&self.faults).clone()),
            Mood::Mixed => None,
            Mood::Storm(number) => (self.random.next(10) > 0).then(|| self.faults[number].clone()),
            Mood::Stalling => self.stalls.pop(),
        }?;
        *self.played.entry(named.name).or_default() += 1;
        Some(named.fault)
    }
}

/// The faults of one upstream, for crate files only.
pub struct Weather(Arc<Mutex<Sky>>);

impl Weather {
    pub fn over(upstream: &FakeUpstream, seed: u64) -> Self {
        let is_stall = |named: &NamedFault| named.effect == Effect::Stalls;
        let (stalls, faults) = NamedFault::all().into_iter().partition(is_stall);
        let sky = Sky {
            mood: Mood::Calm,
            random: Random::new(seed.rotate_left(17) | 1),
            faults,
            stalls,
            played: BTreeMap::new(),
        };
        let sky = Arc::new(Mutex::new(sky));
        let theirs = Arc::clone(&sky);
        upstream.fault_by(move |path| {
            let is_file = path.starts_with("/dl/");
            is_file.then(|| theirs.lock().unwrap().choose())?
        });
        Self(sky)
    }

    pub fn set(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    pub fn next_mood(&self) -> Mood {
        let sky = &mut self.0.lock().unwrap();
        match sky.random.next(20) {
            0..=3 => Mood::Calm,
            4..=14 => Mood::Mixed,
            15..=17 => {
                let faults = sky.faults.len() as u64;
                Mood::Storm(sky.random.next(faults) as usize)
            }
            _ => Mood::Down,
        }
    }

    pub fn played(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap().played.clone()
    }

    pub fn print(&self) {
        let played = self.played();
        println!("{} faults of {} kinds:", played.values().sum::<u64>(), played.len());
        for (name, times) in played {
            println!("{times:>7} {name}");
        }
    }
}

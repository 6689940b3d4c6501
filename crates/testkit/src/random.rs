/// Chance that can be repeated: the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins with `seed`; 0, from which nothing would follow, is taken for 1.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `below`, which must not be 0. xorshift64: repeatable, which is all that is wanted of it.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// One of `list`, which must not be empty.
    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.next(list.len() as u64) as usize]
    }
}

/// A number in the environment that sets a long test: how many rounds, or with which seed. No setting of the mirror.
#[expect(
    clippy::disallowed_methods,
    reason = "this is no setting of the mirror but one of a test"
)]
pub fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

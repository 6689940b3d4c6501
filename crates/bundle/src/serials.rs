use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::error::shown;

/// Some of a site's bundles, by their serials: `1-3,5`. Ranges in ascending order that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serials {
    /// First and last.
    ranges: Vec<(u64, u64)>,
}

impl Serials {
    /// By ascending serials.
    pub fn of(ascending: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for serial in ascending {
            match ranges.last_mut() {
                Some((_, last)) if serial <= last.saturating_add(1) => *last = serial.max(*last),
                _ => ranges.push((serial, serial)),
            }
        }
        Self { ranges }
    }

    /// Whether one is among them.
    pub fn contains(&self, serial: u64) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < serial);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= serial)
    }

    /// As many of the last ranges as can be written with so many characters.
    pub(crate) fn newest_within(&self, characters: usize) -> Self {
        let mut from = self.ranges.len();
        let mut left = characters + 1;
        while from > 0 {
            // and the comma
            let length = RangeText(self.ranges[from - 1]).to_string().len() + 1;
            if length > left {
                break;
            }
            left -= length;
            from -= 1;
        }
        Self {
            ranges: self.ranges[from..].to_vec(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

struct RangeText((u64, u64));

impl fmt::Display for RangeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((first, last)) = self;
        match first == last {
            true => write!(f, "{first}"),
            false => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Serials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "," }, RangeText(*range))?;
        }
        Ok(())
    }
}

impl FromStr for Serials {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let ranges: Option<Vec<(u64, u64)>> = text.split(',').map(range).collect();
        let ascend = |ranges: &Vec<(u64, u64)>| {
            ranges.iter().all(|(first, last)| first <= last)
                && ranges.windows(2).all(|pair| pair[0].1.saturating_add(1) < pair[1].0)
        };
        let parsed = ranges.filter(ascend).map(|ranges| Self { ranges });
        parsed.ok_or_else(|| Error::Form {
            what: "row of serials like 1-3,5",
            text: shown(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_row_of_ascending_ranges_is_refused() {
        for text in ["1", "1-3,5", "0-18446744073709551615", "1,3,5-6"] {
            assert_eq!(text.parse::<Serials>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "1,",
            "3-1",
            "1,2",
            "5,1",
            "1-3,3",
            "-",
            "1-",
            "x",
            "18446744073709551616",
            "1 ,3",
        ] {
            assert!(text.parse::<Serials>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_are_kept_where_there_is_not_room_for_all() {
        let serials = Serials::of([1, 2, 3, 7, 10, 11, u64::MAX]);
        let within = |room| serials.newest_within(room).to_string();
        assert_eq!(within(200), "1-3,7,10-11,18446744073709551615");
        assert_eq!(within(28), "7,10-11,18446744073709551615");
        assert_eq!(within(27), "10-11,18446744073709551615");
        assert_eq!((within(19), within(0)), (String::new(), String::new()));
        assert!(serials.newest_within(3).is_empty());
    }

    proptest! {
        #[test]
        fn they_are_those_that_were_given(given in prop::collection::btree_set(0_u64..60, 1..40)) {
            let serials = Serials::of(given.iter().copied());
            prop_assert_eq!(&serials.to_string().parse::<Serials>().unwrap(), &serials);
            for serial in 0..60 {
                prop_assert_eq!(serials.contains(serial), given.contains(&serial));
            }
        }
    }
}

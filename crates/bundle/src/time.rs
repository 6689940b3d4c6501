use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::shown;

const SECONDS_IN_DAY: u64 = 86_400;

/// A moment, to the second, in UTC: `2026-11-20T12:00:00Z`. The years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time {
    unix_seconds: u64,
}

impl Time {
    /// The last one that can be written.
    const MAX_UNIX: u64 = 253_402_300_799;

    /// Seconds since 1970; what is before or after the years that can be written becomes the first or last moment of them.
    pub fn from_unix(seconds: i64) -> Self {
        Self {
            unix_seconds: u64::try_from(seconds).unwrap_or(0).min(Self::MAX_UNIX),
        }
    }

    /// Now, by this machine's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            unix_seconds: since.as_secs().min(Self::MAX_UNIX),
        }
    }

    /// Seconds since 1970.
    pub const fn unix(self) -> u64 {
        self.unix_seconds
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of January of `year`.
const fn days_before(year: u64) -> u64 {
    let gone = year - 1;
    gone * 365 + gone / 4 - gone / 100 + gone / 400 - 719_162
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.unix_seconds / SECONDS_IN_DAY, self.unix_seconds % SECONDS_IN_DAY);
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let mut day = days - days_before(year);
        let mut month = 1;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z",
            day + 1,
            second % 60
        )
    }
}

impl FromStr for Time {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text.as_bytes()).ok_or_else(|| Error::Form {
            what: "time like 2026-11-20T12:00:00Z",
            text: shown(text),
        })
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    const SHAPE: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let fits = text.len() == SHAPE.len()
        && text.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let is_real = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_real {
        return None;
    }
    let days = days_before(year) + (1..month).map(|month| days_in_month(year, month)).sum::<u64>() + day - 1;
    Some(Time {
        unix_seconds: days * SECONDS_IN_DAY + hour * 3600 + minute * 60 + second,
    })
}

impl TryFrom<String> for Time {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_176_000, "2026-11-20T12:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Time::from_unix(unix).to_string(), text);
            assert_eq!(text.parse::<Time>().unwrap(), Time::from_unix(unix));
        }
        assert_eq!(Time::from_unix(-5), Time::from_unix(0));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T12:00:00",
            "2026-11-20T12:00:00+00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-20T12:00:60Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(unix in 0_i64..253_402_300_800) {
            let time = Time::from_unix(unix);
            prop_assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
            prop_assert_eq!(time.unix(), u64::try_from(unix).unwrap());
        }
    }
}

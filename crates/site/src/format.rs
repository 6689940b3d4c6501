//! Numbers, sizes and times as people read them.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// `1234567` as `1 234 567`, with spaces that do not break.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202F}');
        }
        out.push(digit);
    }
    out
}

/// `1 crate`, `2 crates`.
pub(crate) fn count(value: u64, one: &str, many: &str) -> String {
    format!("{}\u{A0}{}", number(value), if value == 1 { one } else { many })
}

/// `12345678` as `12.3 MB`; powers of a thousand, as disks and networks are sold.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if value < 1000 {
        return format!("{value}\u{A0}B");
    }
    let mut unit = 0;
    let mut divisor = 1000_u64;
    // Beyond 999.5 of one unit the rounded figure belongs to the next.
    while unit + 1 < UNITS.len() && value / divisor >= 999 && value >= divisor * 999 + divisor / 2 {
        divisor *= 1000;
        unit += 1;
    }
    let whole = value as f64 / divisor as f64;
    let figure = if whole < 99.95 {
        format!("{whole:.1}")
    } else {
        format!("{whole:.0}")
    };
    format!("{figure}\u{A0}{}", UNITS[unit])
}

/// A span of time in its largest unit: `3 minutes`.
pub(crate) fn span(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0..MINUTE => count(seconds, "second", "seconds"),
        MINUTE..HOUR => count(seconds / MINUTE, "minute", "minutes"),
        HOUR..DAY => count(seconds / HOUR, "hour", "hours"),
        DAY..YEAR => count(seconds / DAY, "day", "days"),
        _ => count(seconds / YEAR, "year", "years"),
    }
}

/// `3 minutes ago`; a second or less is `just now`.
pub(crate) fn ago(value: Duration) -> String {
    if value.as_secs() <= 1 {
        "just now".to_owned()
    } else {
        format!("{} ago", span(value))
    }
}

/// Seconds since 1970 as the day in UTC, `2026-08-17`.
pub fn date(unix_seconds: u64) -> String {
    let (year, month, day) = civil(unix_seconds / DAY);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Seconds since 1970 as `2026-08-17T09:05:00Z`, for machines.
pub fn date_time(unix_seconds: u64) -> String {
    let of_day = unix_seconds % DAY;
    let (hour, minute, second) = (of_day / HOUR, of_day % HOUR / MINUTE, of_day % MINUTE);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", date(unix_seconds))
}

/// `part` of `whole` in percent, rounded down so that only all is 100; nothing of nothing is 0.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        0
    } else {
        (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64
    }
}

/// The first twelve digits of a hash: enough to compare by eye.
pub(crate) fn short_hash(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// Days since 1970 as year, month and day of the Gregorian calendar: years are counted from March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let from_march_of_year_0 = days + 719_468;
    let era = from_march_of_year_0 / DAYS_IN_400_YEARS;
    let day_of_era = from_march_of_year_0 % DAYS_IN_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_groups_of_three() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1000), "1\u{202F}000");
        assert_eq!(number(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!(
            number(u64::MAX),
            "18\u{202F}446\u{202F}744\u{202F}073\u{202F}709\u{202F}551\u{202F}615"
        );
    }

    #[test]
    fn sizes_never_show_a_thousand_of_a_unit() {
        for (value, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (99_949, "99.9 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_000_000_000_000, "1.0 TB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(value).replace('\u{A0}', " "), text, "{value}");
        }
    }

    #[test]
    fn times_ago_use_the_largest_unit() {
        for (seconds, text) in [
            (0, "just now"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (185, "3 minutes ago"),
            (7200, "2 hours ago"),
            (DAY * 40, "40 days ago"),
            (YEAR * 3, "3 years ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)).replace('\u{A0}', " "), text);
        }
        assert!(ago(Duration::MAX).ends_with("ago"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(date_time(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date_time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date_time(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(date_time(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(date(4_107_542_400), "2100-03-01");
    }

    #[test]
    fn percent_is_whole_only_when_all_is() {
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(5, 3), 100);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}

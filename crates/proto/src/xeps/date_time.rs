//! XEP-0082: XMPP Date and Time Profiles
//!
//! Moments as the protocol writes them, `2026-11-24T13:42:09Z`. Written in UTC, read with any offset.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MILLIS_PER_DAY: i64 = 86_400_000;
/// 0000-01-01T00:00:00Z
const MILLIS_MIN: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
const MILLIS_MAX: i64 = 253_402_300_799_999;

/// A moment between the years 0 and 9999, to a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    unix_millis: i64,
}

/// A string that is no moment in the DateTime profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time as XEP-0082 writes them")]
pub struct DateTimeError;

impl DateTime {
    /// From seconds since 1970 and milliseconds after these. A moment outside the years that can be written becomes the nearest
    /// inside.
    pub fn from_unix(seconds: i64, millis: u16) -> Self {
        Self::from_unix_millis(seconds.saturating_mul(1000).saturating_add(millis.into()))
    }

    /// From milliseconds since 1970; bounded as with [`Self::from_unix`].
    pub fn from_unix_millis(millis: i64) -> Self {
        Self { unix_millis: millis.clamp(MILLIS_MIN, MILLIS_MAX) }
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> i64 {
        self.unix_millis
    }

    /// Whole seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.unix_millis.div_euclid(1000)
    }

    /// Milliseconds after [`Self::unix_seconds`], below 1000.
    pub fn subsec_millis(self) -> u16 {
        self.unix_millis.rem_euclid(1000) as u16
    }
}

/// Since 1970.
impl From<Duration> for DateTime {
    fn from(since_1970: Duration) -> Self {
        Self::from_unix_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

impl From<SystemTime> for DateTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::from(after),
            Err(before) => Self::from_unix_millis(-Self::from(before.duration()).unix_millis),
        }
    }
}

/// In UTC; the fraction of the second only where it is not zero.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.unix_millis.div_euclid(MILLIS_PER_DAY));
        let millis = self.unix_millis.rem_euclid(MILLIS_PER_DAY);
        let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match millis % 1000 {
            0 => f.write_str("Z"),
            fraction => write!(f, ".{fraction:03}Z"),
        }
    }
}

/// Fractions beyond the millisecond are cut off (§3.2 lets them be ignored); the second 60 is the first of the next minute.
impl FromStr for DateTime {
    type Err = DateTimeError;
    fn from_str(text: &str) -> Result<Self, DateTimeError> {
        parse(text.as_bytes()).ok_or(DateTimeError)
    }
}

fn parse(text: &[u8]) -> Option<DateTime> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2] = *date_time else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4], 0..=9999)?;
    let month = number(&[mo1, mo2], 1..=12)?;
    let day = number(&[d1, d2], 1..=days_of_month(year, month))?;
    let time = (number(&[h1, h2], 0..=23)? * 60 + number(&[mi1, mi2], 0..=59)?) * 60 + number(&[s1, s2], 0..=60)?;

    let (fraction, zone) = match rest.strip_prefix(b".") {
        Some(rest) => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        None => (&b"0"[..], rest),
    };
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| i64::from(digit - b'0'));
    let millis = if fraction.is_empty() { None } else { Some(digit(0) * 100 + digit(1) * 10 + digit(2)) }?;
    let offset_minutes = match *zone {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = number(&[h1, h2], 0..=23)? * 60 + number(&[m1, m2], 0..=59)?;
            if sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + time - offset_minutes * 60;
    Some(DateTime::from_unix_millis(seconds * 1000 + millis))
}

fn number(digits: &[u8], allowed: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let value = digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))?;
    allowed.contains(&value).then_some(value)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// The Gregorian calendar repeats itself every 400 years, which are 146097 days. Within such an era years are counted from March,
// so that the leap day is the last of its year.

/// Days since 1970-01-01.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Option<i64> {
        text.parse::<DateTime>().ok().map(DateTime::unix_millis)
    }

    #[test]
    fn known_moments_are_written_and_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("1969-07-21T02:56:15Z", -14_159_025),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2002-09-10T23:08:25Z", 1_031_699_305),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("2024-03-01T00:00:00Z", 1_709_251_200),
            ("2026-11-24T13:42:09Z", 1_795_527_729),
            ("2038-01-19T03:14:08Z", 1 << 31),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(DateTime::from_unix(seconds, 0).to_string(), text);
            assert_eq!(millis(text), Some(seconds * 1000), "{text}");
        }
    }

    #[test]
    fn a_fraction_is_written_where_there_is_one() {
        assert_eq!(DateTime::from_unix(0, 7).to_string(), "1970-01-01T00:00:00.007Z");
        assert_eq!(DateTime::from_unix(-1, 990).to_string(), "1969-12-31T23:59:59.990Z");
        let moment = DateTime::from_unix(-1, 990);
        assert_eq!((moment.unix_millis(), moment.unix_seconds(), moment.subsec_millis()), (-10, -1, 990));
    }

    #[test]
    fn a_fraction_has_any_number_of_digits() {
        assert_eq!(millis("1970-01-01T00:00:00.5Z"), Some(500));
        assert_eq!(millis("1970-01-01T00:00:00.123999999999999999999Z"), Some(123));
        assert_eq!(millis("1970-01-01T00:00:00.000Z"), Some(0));
    }

    #[test]
    fn an_offset_is_taken_into_account() {
        assert_eq!(millis("1969-07-20T21:56:15-05:00"), millis("1969-07-21T02:56:15Z"));
        assert_eq!(millis("1970-01-01T05:30:00.250+05:30"), Some(250));
        assert_eq!(millis("0000-01-01T00:00:00+01:00"), Some(MILLIS_MIN));
    }

    #[test]
    fn a_leap_second_is_the_next_second() {
        assert_eq!(millis("2016-12-31T23:59:60Z"), millis("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "Z",
            "2026-11-24",
            "2026-11-24T13:42:09",
            "2026-11-24 13:42:09Z",
            "2026-11-24T13:42Z",
            "20261124T13:42:09",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+01:0",
            "2026-01-01T00:00:00Z ",
            "+026-01-01T00:00:00Z",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_that_cannot_be_written_becomes_the_nearest() {
        assert_eq!(DateTime::from_unix(i64::MAX, 999).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(DateTime::from_unix(i64::MIN, 0).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(DateTime::from(UNIX_EPOCH - Duration::from_millis(10)).unix_millis(), -10);
        assert_eq!(DateTime::from(UNIX_EPOCH + Duration::from_millis(10)).unix_millis(), 10);
        assert_eq!(DateTime::from(Duration::from_secs(1_000_000_000)).to_string(), "2001-09-09T01:46:40Z");
        assert_eq!(DateTime::from(Duration::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1800, 1, 1);
        for days in days_from_civil(1800, 1, 1)..days_from_civil(2201, 1, 1) {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), days);
            day += 1;
            if day > days_of_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in MILLIS_MIN..=MILLIS_MAX) {
            let moment = DateTime::from_unix_millis(millis);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn any_text_is_a_moment_or_an_error(text in "[0-9TZ:.+-]{0,30}|\\PC{0,30}") {
            let _ = text.parse::<DateTime>();
        }
    }
}

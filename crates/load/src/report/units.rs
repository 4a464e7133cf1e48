//! Numbers as people read them: thousands apart, three digits that matter, the unit with them.

/// `12 345`, with narrow no-break spaces.
pub fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if number < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// Three digits that matter, never an exponent: `0.0123`, `1.23`, `12.3`, `1 234`.
pub fn short(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        "–".to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if size < 1.0 {
        let decimals = (2 - size.log10().floor() as i32).clamp(2, 9) as usize;
        trimmed(format!("{number:.decimals$}"))
    } else if size < 9.995 {
        trimmed(format!("{number:.2}"))
    } else if size < 99.95 {
        trimmed(format!("{number:.1}"))
    } else {
        count(number)
    }
}

/// `12.3 µs`, `4.56 ms`, `7.89 s`.
pub fn micros(us: f64) -> String {
    match us.abs() {
        size if size < 999.5 => format!("{} µs", short(us)),
        size if size < 999_500.0 => format!("{} ms", short(us / 1e3)),
        _ => format!("{} s", short(us / 1e6)),
    }
}

/// `512 B`, `3.91 KiB`, `8.3 GiB`.
pub fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        size if size < 1024.0 => format!("{} B", short(bytes)),
        size if size < 1024.0 * 1024.0 => format!("{} KiB", short(bytes / 1024.0)),
        size if size < 1024.0 * 1024.0 * 1024.0 => format!("{} MiB", short(bytes / (1024.0 * 1024.0))),
        _ => format!("{} GiB", short(bytes / (1024.0 * 1024.0 * 1024.0))),
    }
}

/// `1.234 %` of one processor is unusual: `0.85 cores`.
pub fn cores(cpu_seconds_per_second: f64) -> String {
    format!("{cpu_seconds_per_second:.2} cores")
}

/// Seconds since 1970 as `2026-11-24 17:31 UTC`.
pub fn moment(seconds: u64) -> String {
    let of_day = seconds % 86_400;
    format!("{} {:02}:{:02} UTC", day(seconds), of_day / 3_600, of_day % 3_600 / 60)
}

/// Seconds since 1970 as `2026-11-24`.
pub fn day(seconds: u64) -> String {
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": civil_from_days, for days after 1970.
    let shifted = seconds / 86_400 + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// What is counted, where there are several.
pub fn plural(unit: &str) -> String {
    unit.strip_suffix('y').map_or_else(|| format!("{unit}s"), |stem| format!("{stem}ies"))
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_their_unit() {
        let plain = |text: String| text.replace('\u{202f}', " ");
        assert_eq!(plain(count(1_234_567.4)), "1 234 567");
        assert_eq!(plain(count(-999.0)), "-999");
        let shorts = [0.0, 0.012_34, 1.5, 9.999, 99.96, 12_345.0, -0.25].map(|number| plain(short(number)));
        assert_eq!(shorts, ["0", "0.0123", "1.5", "10", "100", "12 345", "-0.25"]);
        assert_eq!([12.34, 999.6, 4_560.0, 7.89e6].map(micros), ["12.3 µs", "1 ms", "4.56 ms", "7.89 s"]);
        assert_eq!(["delivery", "message"].map(plural), ["deliveries", "messages"]);
        assert_eq!([512.0, 4_004.0, 8.3e9].map(bytes), ["512 B", "3.91 KiB", "7.73 GiB"]);
    }

    #[test]
    fn a_moment_is_a_date_leap_days_included() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(1_709_208_000), "2024-02-29 12:00 UTC");
        assert_eq!(moment(1_795_541_460), "2026-11-24 17:31 UTC");
        assert_eq!(moment(1_798_761_599), "2026-12-31 23:59 UTC");
    }
}

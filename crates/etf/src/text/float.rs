//! The shortest digits of a float that give it back, set as Erlang sets them.

/// As `io_lib_format:fwrite_g/1`.
pub(super) fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("such a format has an exponent");
    let exponent: i32 = exponent.parse().expect("such a format has a number behind the e");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let length = digits.len() as i32;
    // Places before the decimal point.
    let point = exponent + 1;
    let zeros = |count: i32| "0".repeat(count as usize);
    let (first, rest) = digits.split_at(1);
    let scientific = || format!("{sign}{first}.{}e{exponent}", if rest.is_empty() { "0" } else { rest });
    // From 2^53 on the digits would say more than is known.
    if value.abs() >= 9_007_199_254_740_992.0 {
        return scientific();
    }
    // What the point and the exponent take; zeros may take as much.
    let cost = exponent.to_string().len() as i32 + 1 + if rest.is_empty() { 2 } else { 1 };
    match point {
        ..0 if 2 - point > cost => scientific(),
        ..=0 => format!("{sign}0.{}{digits}", zeros(-point)),
        _ if point < length => format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..]),
        _ if point - length + 2 > cost => scientific(),
        _ => format!("{sign}{digits}{}.0", zeros(point - length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_set_as_otp_sets_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.0001, "0.0001"),
            (0.00012, "1.2e-4"),
            (0.00123, "0.00123"),
            (0.00001, "1.0e-5"),
            (100.0, "100.0"),
            (1000.0, "1.0e3"),
            (1200.0, "1.2e3"),
            (-1500.0, "-1.5e3"),
            (1.0e15, "1.0e15"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (9_007_199_254_740_991.0, "9007199254740991.0"),
            (9_007_199_254_740_992.0, "9.007199254740992e15"),
            (1.5, "1.5"),
            (5e-324, "5.0e-324"),
        ] {
            assert_eq!(shortest(value), text);
        }
    }
}

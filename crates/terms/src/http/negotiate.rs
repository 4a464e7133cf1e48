//! RFC 9110 §12: what a client sends, and what it takes.

use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Its name in headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The media type of the body, in lower case and without parameters; none if the client says nothing, or nothing that helps: what
/// `curl --data-binary` says by itself.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_nothing =
        ["", "application/octet-stream", "application/x-www-form-urlencoded"].contains(&essence.as_str());
    (!says_nothing).then_some(essence)
}

/// The coding of the body; none if it is not one of ours.
pub(crate) fn content_coding(headers: &HeaderMap) -> Option<Coding> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = codings.next() else { return Some(Coding::Identity) };
    let name = value.to_str().ok()?.trim().to_ascii_lowercase();
    let coding = match name.as_str() {
        "" | "identity" => Coding::Identity,
        "gzip" | "x-gzip" => Coding::Gzip,
        "zstd" => Coding::Zstd,
        _ => return None,
    };
    codings.next().is_none().then_some(coding)
}

/// The coding for an answer: the one that the client likes best, zstd before gzip.
pub(crate) fn accepted_coding(headers: &HeaderMap) -> Coding {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return Coding::Identity;
    }
    let quality = |coding: Coding| {
        let of = |name: &str| members(headers, &ACCEPT_ENCODING).find(|(member, _)| *member == name);
        let (named, any) = (of(coding.name()), of("*"));
        // Who asks for some coding can be sent none, unless that is ruled out.
        let unsaid = if coding == Coding::Identity { 1 } else { 0 };
        named.or(any).map_or(unsaid, |(_, quality)| quality)
    };
    let (gzip, zstd) = (quality(Coding::Gzip), quality(Coding::Zstd));
    match (zstd.max(gzip), zstd >= gzip) {
        (0, _) => Coding::Identity,
        (_, true) => Coding::Zstd,
        (_, false) => Coding::Gzip,
    }
}

/// Which of the media types that there are the client likes best; none if it takes none of them.
pub(crate) fn accepted<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Option<&'a str> {
    if !headers.contains_key(ACCEPT) {
        return offers.first().copied();
    }
    let quality = |offer: &str| {
        let (class, _) = offer.split_once('/').unwrap_or((offer, ""));
        let fits = |range: &str| match range {
            "*/*" => Some(0),
            _ if range == offer => Some(2),
            _ => range.strip_suffix("/*").is_some_and(|of| of == class).then_some(1),
        };
        let best = members(headers, &ACCEPT)
            .filter_map(|(range, quality)| Some((fits(&range.to_ascii_lowercase())?, quality)));
        best.max_by_key(|(specific, _)| *specific).map_or(0, |(_, quality)| quality)
    };
    // The first of those that are liked alike.
    let rated = offers.iter().map(|offer| (quality(offer), *offer)).rev();
    rated.max_by_key(|(quality, _)| *quality).filter(|(quality, _)| *quality > 0).map(|(_, offer)| offer)
}

/// The members of a list header, each with its quality in thousandths.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'a str, u32)> {
    let values = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1.0), |text| text.parse::<f64>().ok()).unwrap_or(0.0);
        (name, (quality.clamp(0.0, 1.0) * 1000.0) as u32)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_media_type_is_the_one_with_the_best_quality_of_the_nearest_range() {
        let offers = ["application/json", "text/plain", "application/x-erlang-binary"];
        for (accept, expected) in [
            ("*/*", Some("application/json")),
            ("text/html, text/*;q=0.5, */*;q=0.1", Some("text/plain")),
            ("application/*, application/json;q=0", Some("application/x-erlang-binary")),
            ("Application/JSON;q=0.2", Some("application/json")),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(accepted(&with(ACCEPT, accept), &offers), expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new(), &offers), Some("application/json"));
    }

    #[test]
    fn the_coding_is_the_one_that_is_liked_best() {
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip;q=1.0, zstd;q=0.5", Coding::Gzip),
            ("br", Coding::Identity),
            ("zstd;q=0, *", Coding::Gzip),
            ("", Coding::Identity),
        ] {
            assert_eq!(accepted_coding(&with(ACCEPT_ENCODING, accept)), expected, "{accept}");
        }
    }

    #[test]
    fn a_body_of_an_unknown_coding_or_of_several_is_refused() {
        assert_eq!(content_coding(&with(CONTENT_ENCODING, "br")), None);
        let twice = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        let mut twice = twice;
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(content_coding(&twice), None);
        assert_eq!(content_coding(&with(CONTENT_ENCODING, "X-GZIP")), Some(Coding::Gzip));
    }
}

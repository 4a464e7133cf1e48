//! `POST /terms/to-json`, `from-json`, `to-text`, `from-text`.

#![allow(clippy::unwrap_used)]

mod client;

use std::io::{Read as _, Write as _};

use client::{parse, prefixed, start, term};
use magpie_terms::config::Terms;
use serde_json::json;

const ERLANG: &str = "Content-Type: application/x-erlang-binary\r\n";
const STREAM: &str = "Content-Type: application/x-erlang-binary-stream\r\n";
const LINES: &str = "Content-Type: application/x-ndjson\r\n";

#[test]
fn a_term_becomes_json_and_the_same_bytes_again() {
    let service = start(Terms::default());
    let bytes = term("#{name => <<\"Juliet\">>, <<\"mails\">> => [{home, \"a@b\"}], 1 => -1.5}");
    let json = service.post("/terms/to-json", ERLANG, &bytes);
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    let back = service.post("/terms/from-json", "Content-Type: application/json\r\n", &json.body);
    assert_eq!(back.header("content-type"), Some("application/x-erlang-binary"));
    assert_eq!(back.body, bytes);
    let readable = service.post("/terms/to-json?mode=readable", "", &bytes);
    assert_eq!(readable.json(), json!({ "name": "Juliet", "mails": [["home", "a@b"]], "1": -1.5 }));
}

#[test]
fn a_term_becomes_text_and_texts_become_a_stream() {
    let service = start(Terms::default());
    let text = service.post("/terms/to-text", ERLANG, &term("{a, [<<\"text\">>, \"b\"], '你'}"));
    assert_eq!(text.text(), "{a,[<<\"text\">>,\"b\"],'你'}.\n");
    let stream = service.post(
        "/terms/from-text",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "{a,1}. % one\n[2].\n".as_bytes(),
    );
    assert_eq!(stream.header("content-type"), Some("application/x-erlang-binary-stream"));
    assert_eq!(stream.body, prefixed([&term("{a,1}")[..], &term("[2]")]));
    let wrong = service.post("/terms/from-text", "", b"{a,1}. {b.").json();
    assert_eq!((&wrong["code"], &wrong["item"]), (&json!("bad-text"), &json!(1)));
}

#[test]
fn a_stream_becomes_lines_and_the_same_stream_again() {
    let service = start(Terms::default());
    let terms: Vec<Vec<u8>> = (0..5000).map(|number| term(&format!("{{user,{number},<<\"text\">>}}"))).collect();
    let stream = prefixed(terms.iter().map(Vec::as_slice));
    let lines = service.post("/terms/to-json", STREAM, &stream);
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(lines.text().lines().count(), 5000);
    assert_eq!(lines.text().lines().nth(4999), Some(r#"{"$tuple":[{"$atom":"user"},4999,"text"]}"#));
    assert!(service.post("/terms/from-json", LINES, &lines.body).body == stream);
    let text = service.post("/terms/to-text?stream", "", &stream);
    assert_eq!(text.text().lines().nth(1), Some("{user,1,<<\"text\">>}."));
    assert!(service.post("/terms/from-text", "", &text.body).body == stream);
    assert_eq!(service.post("/terms/to-json", STREAM, b"").body, b"");
}

#[test]
fn a_bad_term_names_its_offset_and_reason_in_problem_details() {
    let service = start(Terms::default());
    let answer = service.post("/terms/to-json", ERLANG, &[131, 104, 2, 97, 1, 200]);
    assert_eq!((answer.status, answer.header("content-type")), (422, Some("application/problem+json")));
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["offset"]), (&json!("bad-term"), &json!(5)));
    assert_eq!(problem["detail"], "tag 200 is unknown, or may not stand here");
    // The first of a stream, before anything was answered.
    let answer = service.post("/terms/to-json", STREAM, &prefixed([&[131, 1][..], &term("ok")]));
    assert_eq!((answer.status, &answer.json()["item"]), (422, &json!(0)));
    let answer = service.post("/terms/from-json", LINES, b"{\"a\":}\n");
    assert_eq!((answer.status, &answer.json()["code"], &answer.json()["offset"]), (422, &json!("bad-json"), &json!(5)));
}

#[test]
fn a_stream_with_a_bad_term_ends_there_or_goes_on_if_asked() {
    let service = start(Terms::default());
    let (good, bad) = (term("ok"), vec![131, 104, 9]);
    let stream = prefixed([&good[..], &bad, &good, &[], &good]);
    let ended = service.post("/terms/to-json", STREAM, &stream);
    let lines: Vec<&str> = ended.text().lines().collect();
    assert_eq!((ended.status, lines.len(), lines[0]), (200, 2, r#"{"$atom":"ok"}"#));
    let told: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((&told["$error"]["item"], &told["$error"]["code"]), (&json!(1), &json!("bad-term")));

    let whole = service.post("/terms/to-json?errors=continue", STREAM, &stream);
    let lines: Vec<&str> = whole.text().lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((lines[0], lines[2], lines[4]), (lines[0], lines[0], lines[0]));
    assert!(lines[1].contains(r#""item":1"#) && lines[3].contains(r#""item":3"#));
    let text = service.post("/terms/to-text?errors=continue", STREAM, &stream);
    assert!(text.text().lines().nth(1).unwrap().starts_with("%% {"), "an error is a comment: {}", text.text());
}

#[test]
fn in_a_stream_of_bytes_a_problem_stands_behind_a_length_of_zero() {
    let service = start(Terms::default());
    let answer = service.post("/terms/from-json?errors=continue", LINES, b"1\n{\n\n 2 \r\n");
    let one = prefixed([&term("1")[..]]);
    let rest = answer.body.strip_prefix(&one[..]).unwrap().strip_prefix(&[0; 4]).unwrap();
    let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
    let problem = magpie_etf::decode(&rest[4..4 + length]).unwrap();
    assert!(problem.root().to_string().contains("1"), "{}", problem.root());
    assert_eq!(rest[4 + length..], prefixed([&term("2")[..]]));
}

#[test]
fn no_term_is_taken_for_a_problem_in_readable_json() {
    let service = start(Terms::default());
    let terms = [term("#{<<\"$error\">> => 1}"), term("#{'$error' => 1, <<\"$$\">> => 2}"), vec![131, 104, 9]];
    let stream = prefixed(terms.iter().map(Vec::as_slice));
    let answer = service.post("/terms/to-json?mode=readable", STREAM, &stream);
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines[..2], ["{\"$$error\":1}", "{\"$$error\":1,\"$$$\":2}"]);
    assert!(lines[2].starts_with("{\"$error\":"), "{}", lines[2]);
}

#[test]
fn a_stream_that_ends_within_a_term_says_so() {
    let service = start(Terms::default());
    let whole = prefixed([&term("ok")[..], &term("{a,b}")]);
    for cut in 1..whole.len() {
        let answer = service.post("/terms/to-json?errors=continue", STREAM, &whole[..cut]);
        let said = answer.text();
        let first_ends = 4 + term("ok").len();
        assert_eq!(said.contains("cut-short"), cut != first_ends, "{cut}: {said}");
        assert_eq!(said.contains(r#"{"$atom":"ok"}"#), cut >= first_ends, "{cut}: {said}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_a_stream_goes_on_behind_it() {
    let service = start(Terms { term_bytes_max: 200_000, ..Terms::default() });
    let large = text_of(300_000);
    let answer = service.post("/terms/to-json", ERLANG, &large);
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too-large")));
    let stream = prefixed([&term("a")[..], &large, &text_of(150_000), &term("b")]);
    let answer = service.post("/terms/to-json?errors=continue", STREAM, &stream);
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].contains("too-large"), "{}", lines[1]);
    assert!(lines[2].len() > 150_000, "{}", lines[2].len());
    assert_eq!(lines[3], r#"{"$atom":"b"}"#);
    let long = [b"\"", &vec![b'x'; 300_000][..], b"\"\n1\n"].concat();
    let answer = service.post("/terms/from-json?errors=continue", LINES, &long);
    assert!(answer.body.ends_with(&prefixed([&term("1")[..]])));
    // A length that claims 4 GiB takes no memory.
    let answer = service.post("/terms/to-json", STREAM, &[0xff, 0xff, 0xff, 0xff, 131]);
    assert_eq!(answer.json()["code"], "too-large");
}

/// A binary of text.
fn text_of(bytes: usize) -> Vec<u8> {
    [&[131, 109][..], &u32::try_from(bytes).unwrap().to_be_bytes(), &vec![b'x'; bytes]].concat()
}

#[test]
fn bodies_are_compressed_both_ways_with_gzip_and_zstd() {
    let service = start(Terms::default());
    let terms: Vec<Vec<u8>> = (0..3000).map(|number| term(&format!("{{user,{number}}}"))).collect();
    let stream = prefixed(terms.iter().map(Vec::as_slice));
    let plain = service.post("/terms/to-json", STREAM, &stream).body;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gunzip = |bytes: &[u8]| {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    };
    let headers =
        |coding: &str, accept: &str| format!("{STREAM}Content-Encoding: {coding}\r\nAccept-Encoding: {accept}\r\n");
    let answer = service.post("/terms/to-json", &headers("gzip", "gzip"), &gzip(&stream));
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() * 2 < plain.len() && gunzip(&answer.body) == plain);
    let zstd = zstd::encode_all(&stream[..], 1).unwrap();
    let answer = service.post("/terms/to-json", &headers("zstd", "gzip, zstd"), &zstd);
    assert_eq!(answer.header("content-encoding"), Some("zstd"));
    assert!(zstd::decode_all(&answer.body[..]).unwrap() == plain);
    // One term, whole.
    let answer = service.post("/terms/to-json", &format!("{ERLANG}Accept-Encoding: gzip\r\n"), &text_of(100_000));
    assert_eq!(gunzip(&answer.body).len(), 100_003);
    let answer = service.post("/terms/to-json", &format!("{ERLANG}Content-Encoding: br\r\n"), b"?");
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("gzip, zstd")));
    let answer = service.post("/terms/to-json", &format!("{ERLANG}Content-Encoding: gzip\r\n"), b"no gzip");
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad-body")));
}

#[test]
fn a_compressed_stream_that_is_cut_or_damaged_says_so_wherever_it_is() {
    let service = start(Terms::default());
    let stream = prefixed([&term("a")[..], &term("b"), &term("c")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    // Each term is there before the next, so that what came often ends with one.
    for item in stream.chunks(stream.len() / 3) {
        gzip.write_all(item).and_then(|()| gzip.flush()).unwrap();
        zstd.write_all(item).and_then(|()| zstd.flush()).unwrap();
    }
    let in_writes = |coding: &str, query: &str, body: &[u8], first: usize| {
        let mut socket = service.connect();
        let head = format!(
            "POST /terms/to-json{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
             {STREAM}Content-Encoding: {coding}\r\n\r\n",
            body.len()
        );
        socket.write_all(&[head.as_bytes(), &body[..first]].concat()).unwrap();
        if first < body.len() {
            std::thread::sleep(std::time::Duration::from_millis(2));
            socket.write_all(&body[first..]).unwrap();
        }
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        parse(&answer)
    };
    for (coding, whole) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd.finish().unwrap())] {
        let mut bodies: Vec<Vec<u8>> = (1..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
        let mut wrong_sum = whole.clone();
        let sum = whole.len() - if coding == "gzip" { 8 } else { 4 };
        wrong_sum[sum] ^= 1;
        bodies.extend([wrong_sum, b"no gzip".to_vec(), [&whole[..], b"behind it"].concat()]);
        for body in &bodies {
            for (query, first) in
                [("", body.len()), ("?errors=continue", body.len()), ("", body.len() / 2), ("", body.len() - 1)]
            {
                let answer = in_writes(coding, query, body, first);
                let said = answer.text();
                let last = said.lines().last().unwrap_or_default();
                let at = format!("{coding} {} of {} bytes, {first} first: {said:?}", body.len(), whole.len());
                match answer.status {
                    200 => assert!(last.starts_with("{\"$error\":") && last.contains("bad-body"), "{at}"),
                    status => assert_eq!((status, answer.json()["code"].as_str()), (400, Some("bad-body")), "{at}"),
                }
            }
        }
        for first in 0..=whole.len() {
            let answer = in_writes(coding, "", &whole, first);
            assert_eq!(answer.text().lines().count(), 3, "{coding} {first}: {}", answer.text());
            assert!(!answer.text().contains("$error"));
        }
    }
}

#[test]
fn what_is_neither_sent_nor_taken_here_is_refused_with_what_is() {
    let service = start(Terms::default());
    let answer = service.post("/terms/to-json", "Content-Type: image/png\r\n", b"?");
    assert_eq!(answer.status, 415);
    assert_eq!(answer.header("accept"), Some("application/x-erlang-binary, application/x-erlang-binary-stream"));
    let answer = service.post("/terms/to-json", &format!("{ERLANG}Accept: text/html\r\n"), &term("a"));
    assert_eq!((answer.status, &answer.json()["code"]), (406, &json!("not-acceptable")));
    let answer = service.get("/terms/to-json");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = service.post("/terms/to-json?modus=readable", ERLANG, &term("a"));
    assert_eq!(
        (answer.status, &answer.json()["detail"]),
        (400, &json!("there is no parameter modus here, but mode, stream, errors"))
    );
}

#[test]
fn a_line_is_there_as_soon_as_its_term_has_come() {
    let service = start(Terms::default());
    let mut socket = service.connect();
    let head = format!(
        "POST /terms/to-json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n{STREAM}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let item = prefixed([&term("first")[..]]);
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    socket.write_all(&chunk(&item)).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(5).any(|window| window == b"first") {
        let count = socket.read(&mut buffer).unwrap();
        assert!(count > 0, "the first line comes before the second term is sent");
        seen.extend_from_slice(&buffer[..count]);
    }
    socket.write_all(&chunk(&prefixed([&term("second")[..]]))).unwrap();
    socket.write_all(b"0\r\n\r\n").unwrap();
    socket.read_to_end(&mut seen).unwrap();
    assert_eq!(parse(&seen).text().lines().count(), 2);
}

#[test]
fn a_zstd_body_may_have_a_window_of_8_mib_and_no_larger_one() {
    let service = start(Terms::default());
    for (log, status) in [(23, 200), (24, 400), (27, 400)] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
        encoder.write_all(&term("ok")).unwrap();
        let answer = service.post("/terms/to-json", "Content-Encoding: zstd\r\n", &encoder.finish().unwrap());
        assert_eq!(answer.status, status, "2^{log}: {}", answer.text());
    }
}

#[test]
fn bombs_cost_little_and_the_next_request_is_answered() {
    let service = start(Terms { inflated_bytes_max: 1 << 20, term_bytes_max: 1 << 20, ..Terms::default() });
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let inflated = text_of(64 << 20);
    zlib.write_all(&inflated[1..]).unwrap();
    let size = u32::try_from(inflated.len() - 1).unwrap().to_be_bytes();
    let compressed = [&[131, 80][..], &size, &zlib.finish().unwrap()].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&inflated).unwrap();
    let claims_all = [131, 108, 0xff, 0xff, 0xff, 0xff];
    let deep = [&[131][..], &[104, 1].repeat(200_000), &[106]].concat();
    for (what, headers, body, status) in [
        ("a zlib bomb", ERLANG, &compressed[..], 422),
        ("a gzip bomb", "Content-Encoding: gzip\r\n", &gzip.finish().unwrap()[..], 413),
        ("a list that claims 2^32-1 elements", ERLANG, &claims_all[..], 422),
        ("200 000 tuples in each other", ERLANG, &deep[..], 200),
    ] {
        let answer = service.post("/terms/to-json", headers, body);
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(service.post("/terms/to-json", ERLANG, &term("ok")).status, 200, "after {what}");
    }
    let whole = term("{[1,2|3],#{a => <<\"b\">>},\"text\",1.5,<<1:3>>}");
    for cut in 0..whole.len() {
        assert_eq!(service.post("/terms/to-json", ERLANG, &whole[..cut]).status, 422, "cut at {cut}");
    }
}

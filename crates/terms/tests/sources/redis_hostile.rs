//! A server that does not speak as Redis does.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use magpie_terms::config::KeyKind;
use magpie_terms::sources::{Limits, Source as _, redis};

use crate::redis::configured;
use crate::{LIMITS, look};

/// Answers the first bytes of each connection with these, and closes it.
fn server(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        // A lookup is made twice where its connection is lost.
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&answer);
        }
    });
    url
}

#[tokio::test]
async fn no_answer_does_harm() {
    let limits = Limits { seconds_max: 3, ..LIMITS };
    let mut answers: Vec<Vec<u8>> = [
        "",
        "\r\n",
        "\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$\r\n",
        "$-2\r\n",
        "$5\r\nab",
        "$5\r\nabcdefgh\r\n",
        "$+5\r\nabcde\r\n",
        "$99999999999999999999\r\n",
        "$18446744073709551615\r\nabc",
        "$9223372036854775807\r\nabc",
        "*1\r\n$1\r\na\r\n",
        "*-1\r\n",
        "%1\r\n",
        "$0x5\r\nabcde\r\n",
        "$5\nabcde\n",
        "\0\0\0\0",
    ]
    .map(|answer| answer.as_bytes().to_vec())
    .to_vec();
    answers.push(vec![b'+'; 1 << 20]);
    answers.push(vec![b'$'; 1 << 20]);
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let terms = redis::open(&configured(&server(answer), "GET $1", KeyKind::Guess), limits).unwrap();
        let got = look(&terms, "42").await;
        assert!(got.starts_with("unavailable: "), "{shown:?}: {got}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let url = server(b"$2\r\n\x6bA\r\n$2\r\n\x6bB\r\n".to_vec());
    let terms = redis::open(&configured(&url, "GET $1", KeyKind::Guess), LIMITS).unwrap();
    let first = terms.get("a").await;
    // The connection ended with the second answer; whoever asks next is asked for anew.
    let second = terms.get("b").await;
    for got in [first, second] {
        assert!(got.is_err() || got.is_ok_and(|found| found.unwrap().bytes == "\x6bA"));
    }
}

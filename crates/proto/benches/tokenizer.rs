//! The tokenizer beside rxml, on the same bytes in the same run: stanzas that a chat is made of.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};
use magpie_proto::xml::{Token, Tokenizer, XmlLimits};
use rxml::Parse as _;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
    to='localhost' version='1.0'>";
const STANZA: &str = "<message to='juliet@localhost/balcony' type='chat' id='c2f1e0d4-7a3b-4f3e-9f27-6b1d6f0a9e55'>\
    <body>Art thou not Romeo, and a Montague? Neither, fair saint, if either thee dislike. Good night.</body></message>";
const STANZA_BYTES: usize = 208;
/// About as many as one read from a busy socket holds.
const STANZAS: usize = 64;

/// What else a stream carries; only the first is what the goal is set on.
const OTHERS: [(&str, &str); 4] = [
    (
        "double quotes, namespace said",
        "<message xmlns=\"jabber:client\" to=\"juliet@localhost/balcony\" type=\"chat\" id=\"c2f1\">\
            <body>Art thou not Romeo?</body><request xmlns=\"urn:xmpp:receipts\"/></message>",
    ),
    (
        "not ASCII, with references",
        "<message to='juliet@localhost/balcony' type='chat' id='c2f1'><body>\u{1F339} Für &amp; wider: \
            &lt;ist das nicht schön&gt;</body></message>",
    ),
    (
        "presence with capabilities",
        "<presence><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
            node='http://psi-im.org' ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/><x xmlns='vcard-temp:x:update'/></presence>",
    ),
    ("prefixed", "<message xmlns:x='urn:x' to='juliet@localhost'><x:a b='1'><x:c>text</x:c></x:a></message>"),
];

fn stanzas(stanza: &str) -> Vec<u8> {
    stanza.repeat(STANZAS).into_bytes()
}

fn tokenizer() -> Tokenizer {
    let mut tokenizer = Tokenizer::new(XmlLimits::default());
    assert!(matches!(tokenizer.next(&mut HEADER.as_bytes()), Ok(Some(Token::StreamStart(_)))));
    tokenizer
}

fn tokenize(tokenizer: &mut Tokenizer, mut input: &[u8]) {
    let mut count = 0;
    while let Some(token) = tokenizer.next(&mut input).expect("the stanza is well-formed") {
        black_box(&token);
        count += 1;
    }
    assert_eq!(count, STANZAS);
}

fn rxml_parser() -> rxml::Parser {
    let mut parser = rxml::Parser::new();
    let event = parser.parse(&mut HEADER.as_bytes(), false);
    assert!(matches!(event, Ok(Some(rxml::Event::StartElement(..)))));
    parser
}

fn parse_with_rxml(parser: &mut rxml::Parser, mut input: &[u8]) {
    let mut depth = 0;
    let mut count = 0;
    loop {
        match parser.parse(&mut input, false) {
            Ok(Some(event)) => {
                match &event {
                    rxml::Event::StartElement(..) => depth += 1,
                    rxml::Event::EndElement(..) => depth -= 1,
                    _ => {}
                }
                count += u32::from(depth == 0);
                black_box(&event);
            }
            Ok(None) | Err(rxml::error::EndOrError::NeedMoreData) => break,
            Err(rxml::error::EndOrError::Error(error)) => panic!("rxml refuses the stanza: {error}"),
        }
    }
    assert_eq!(count, STANZAS as u32);
}

fn benches(criterion: &mut Criterion) {
    assert_eq!(STANZA.len(), STANZA_BYTES);
    let mut group = criterion.benchmark_group("208-byte message");
    let input = stanzas(STANZA);
    group.throughput(Throughput::Elements(STANZAS as u64));
    let mut ours = tokenizer();
    group.bench_function("tokenizer", |bencher| bencher.iter(|| tokenize(&mut ours, &input)));
    let mut theirs = rxml_parser();
    group.bench_function("rxml", |bencher| bencher.iter(|| parse_with_rxml(&mut theirs, &input)));
    group.finish();

    let mut group = criterion.benchmark_group("other stanzas");
    group.throughput(Throughput::Elements(STANZAS as u64));
    for (name, stanza) in OTHERS {
        let input = stanzas(stanza);
        group.bench_function(name, |bencher| bencher.iter(|| tokenize(&mut ours, &input)));
    }
    // Every stanza arrives in two pieces.
    let input = stanzas(STANZA);
    group.bench_function("208 bytes in two pieces", |bencher| {
        bencher.iter(|| {
            for stanza in input.chunks(STANZA_BYTES) {
                let (head, tail) = stanza.split_at(STANZA_BYTES / 2);
                assert!(ours.next(&mut &*head).is_ok_and(|token| token.is_none()));
                black_box(ours.next(&mut &*tail)).expect("the stanza is well-formed").expect("the stanza is complete");
            }
        });
    });
    group.finish();
}

/// Both in turns, so that a machine that changes its speed changes it for both. A turn is short, and the best of
/// each counts: the one that nothing else on the machine disturbed.
fn print_ratio() {
    let input = stanzas(STANZA);
    let (mut ours, mut theirs) = (tokenizer(), rxml_parser());
    let (mut best_ours, mut best_theirs) = (Duration::MAX, Duration::MAX);
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed() / STANZAS as u32
    };
    for _ in 0..5_000 {
        best_ours = best_ours.min(time(&mut || tokenize(&mut ours, &input)));
        best_theirs = best_theirs.min(time(&mut || parse_with_rxml(&mut theirs, &input)));
    }
    let per_second = |time: Duration| 1e-6 / time.as_secs_f64();
    println!(
        "208-byte stanzas per second and core: tokenizer {:.2} million ({best_ours:?} each), \
         rxml {:.2} million ({best_theirs:?} each), ratio {:.1}",
        per_second(best_ours),
        per_second(best_theirs),
        best_theirs.as_secs_f64() / best_ours.as_secs_f64(),
    );
}

criterion_group! {
    name = group;
    config = Criterion::default().without_plots().sample_size(30).measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = benches
}

fn main() {
    group();
    print_ratio();
    Criterion::default().configure_from_args().final_summary();
}

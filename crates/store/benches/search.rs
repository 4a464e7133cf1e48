//! How long a search in a large archive takes beside one in a small one, and how fast an index fills.
//! `cargo bench -p magpie-store --bench search [-- MESSAGES…]`: ten thousand and a million messages where nothing is said, half of them one
//! owner's, the others of a thousand.

#![allow(clippy::unwrap_used)]

#[path = "../tests/wait/mod.rs"]
mod wait;

use std::ops::ControlFlow;
use std::time::Instant;

use magpie_store::{Archive, Batch, Effect, Filing, LogId, Page, Record, Search, Searched, Store, Words};

use wait::wait;

const OTHERS: usize = 1000;
const CONTACTS: u64 = 50;
/// Words of which messages consist, the first of them the most often.
const WORDS: f64 = 50_000.0;
/// A year of messages.
const SPAN_MILLIS: u64 = 365 * 24 * 60 * 60 * 1000;
const BEGIN_MILLIS: u64 = 1_767_225_600_000;

struct Text(String);

impl Record for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::decode(bytes).map(Self)
    }
}

impl Searched for Text {
    fn text(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

struct Random(u64);

impl Random {
    /// Marsaglia's xorshift.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Small numbers more often, as words are.
    fn rank(&mut self, below: f64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        below.powf(uniform) as u64
    }
}

fn word(rank: u64) -> String {
    let (mut rank, mut word) = (rank, String::from("w"));
    while rank > 0 {
        word.push(char::from(b'a' + (rank % 26) as u8));
        rank /= 26;
    }
    word
}

fn sign(rank: u64) -> char {
    char::from_u32(0x4E00 + rank as u32).unwrap_or('一')
}

/// One in ten is Chinese.
fn message(random: &mut Random) -> String {
    match random.next() % 10 {
        0 => (0..15).map(|_| sign(random.rank(3000.0))).collect(),
        _ => (0..10).map(|_| word(random.rank(WORDS))).collect::<Vec<_>>().join(" "),
    }
}

fn fill(store: &Store, archive: &Archive<Text>, messages: usize, random: &mut Random) {
    for first in (0..messages).step_by(1000) {
        let mut batch = Batch::new();
        for index in first..messages.min(first + 1000) {
            let millis = BEGIN_MILLIS + (index as u64) * SPAN_MILLIS / messages as u64;
            let owner = match index % 2 {
                0 => "example.org/heavy".to_owned(),
                _ => format!("example.org/user{}", random.next() as usize % OTHERS),
            };
            let topic = format!("contact{}@example.net", random.next() % CONTACTS);
            let filing = Filing { owner: &owner, topic: &topic, effect: Effect::None };
            let id = LogId(LogId::at_millis(millis).0 + ((index as u64 % 1000) << 8));
            archive.append(&mut batch, Some(id), &[filing], &Text(message(random)));
        }
        store.commit(batch).wait().unwrap();
    }
}

/// What was sought, how many were found on average, and half of the searches, 99 of 100 and all took no longer: in milliseconds.
struct Measured {
    label: String,
    found: f64,
    took: [f64; 3],
}

fn main() {
    // Without it this is a test run, which only has to see that it works.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let said: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = match (said.is_empty(), measured) {
        (false, _) => said,
        (true, true) => vec![10_000, 1_000_000],
        (true, false) => vec![100, 300],
    };
    let searches = if measured { 300 } else { 3 };
    let columns: Vec<Vec<Measured>> = sizes.iter().map(|messages| run(*messages, searches)).collect();
    print!("{:<50}", "pages of 50, milliseconds");
    sizes.iter().for_each(|messages| print!(" |{:>32}", format!("in {messages} messages")));
    print!("\n{:<50}", "");
    sizes.iter().for_each(|_| print!(" |{:>8}{:>8}{:>8}{:>8}", "found", "p50", "p99", "max"));
    println!();
    for row in 0..columns[0].len() {
        print!("{:<50}", columns[0][row].label);
        for Measured { found, took: [p50, p99, max], .. } in columns.iter().map(|column| &column[row]) {
            print!(" |{found:>8.1}{p50:>8.2}{p99:>8.2}{max:>8.2}");
        }
        println!();
    }
}

fn run(messages: usize, searches: usize) -> Vec<Measured> {
    let parent = std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| std::env::temp_dir().into());
    let folder = tempfile::tempdir_in(parent).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let archive = store.archive::<Text>("messages");
    let mut random = Random(88172645463325252);
    let since = Instant::now();
    fill(&store, &archive, messages, &mut random);
    println!("{messages} messages kept in {:.1} s", since.elapsed().as_secs_f64());

    let since = Instant::now();
    let search = store.search::<Text>("messages");
    let (nobody, words) = ("example.org/nobody", Words::parse(&word(1)).unwrap());
    while store.statistics().search_indexed < messages as u64 || store.statistics().search_behind > 0 {
        // Where somebody searches the index fills without rests.
        let page = Page { limit: 50, ..Page::default() };
        wait(search.find(nobody, &words, &page, |_, _| ControlFlow::Continue(()))).unwrap();
    }
    let (seconds, file) = (since.elapsed().as_secs_f64(), |name: &str| {
        let bytes = |end: &str| folder.path().join(format!("{name}{end}")).metadata().map_or(0, |file| file.len());
        (bytes("") + bytes("-wal")) as f64 / messages as f64
    });
    println!("indexed without rests in {seconds:.1} s, {:.0} messages/s", messages as f64 / seconds);
    println!("bytes a message: archive {:.0}, index {:.0}", file("store.db"), file("search-messages.db"));

    let common = |_: &mut Random| word(1);
    let rare = |random: &mut Random| word(30_000 + random.next() % 10_000);
    let both = |random: &mut Random| format!("{} {}", word(1 + random.next() % 20), word(1000 + random.next() % 1000));
    let phrase = |random: &mut Random| format!("\"{} {}\"", word(1 + random.next() % 50), word(1 + random.next() % 50));
    let two = |random: &mut Random| [sign(1 + random.next() % 200), sign(1 + random.next() % 200)].iter().collect();
    let one = |random: &mut Random| sign(1 + random.next() % 500).to_string();
    type Sought<'a> = &'a dyn Fn(&mut Random) -> String;
    let kinds: [(&str, Sought<'_>); 6] = [
        ("the commonest word", &common),
        ("a rare word", &rare),
        ("a common and a rarer word", &both),
        ("a phrase of two common words", &phrase),
        ("two Chinese signs", &two),
        ("one Chinese sign", &one),
    ];
    let mut all = Vec::new();
    for (kind, sought) in kinds {
        for (whose, owner) in [("of the heavy owner", Some("example.org/heavy")), ("of any other", None)] {
            all.push(measure(format!("{kind}, {whose}"), searches, &search, &mut random, |random| {
                let owner =
                    owner.map_or_else(|| format!("example.org/user{}", random.next() as usize % OTHERS), str::to_owned);
                (owner, sought(random), Page { backwards: true, limit: 50, ..Page::default() })
            }));
        }
    }
    let label = "the commonest word, with one contact, heavy".to_owned();
    all.push(measure(label, searches, &search, &mut random, |random| {
        let topic = Some(format!("contact{}@example.net", random.next() % CONTACTS));
        ("example.org/heavy".to_owned(), word(1), Page { topic, backwards: true, limit: 50, ..Page::default() })
    }));
    let label = "the commonest word, pages from anywhere, heavy".to_owned();
    all.push(measure(label, searches, &search, &mut random, |random| {
        let after = Some(LogId::at_millis(BEGIN_MILLIS + random.next() % SPAN_MILLIS));
        ("example.org/heavy".to_owned(), word(1), Page { after, limit: 50, ..Page::default() })
    }));
    all
}

fn measure(
    label: String,
    searches: usize,
    search: &Search<Text>,
    random: &mut Random,
    next: impl Fn(&mut Random) -> (String, String, Page),
) -> Measured {
    let (mut times, mut found) = (Vec::new(), 0);
    for _ in 0..searches {
        let (owner, sought, page) = next(random);
        let words = Words::parse(&sought).unwrap();
        let since = Instant::now();
        let mut here = 0;
        let end = wait(search.find(&owner, &words, &page, |_, _| {
            here += 1;
            if here >= page.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        end.unwrap();
        times.push(since.elapsed().as_secs_f64() * 1000.0);
        found += here;
    }
    times.sort_by(f64::total_cmp);
    let took = [0.5, 0.99, 1.0].map(|share| times[((times.len() - 1) as f64 * share) as usize]);
    Measured { label, found: found as f64 / searches as f64, took }
}

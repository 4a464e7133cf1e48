//! Bytes of terms from seeds: every tag in every form, canonical or not.

#![allow(dead_code)]

/// Numbers from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A term with its version byte. Keys of maps are integers, so that they mostly differ.
pub(crate) fn term(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![131];
    let depth = random.below(5);
    write(random, depth, &mut bytes);
    bytes
}

/// Changes a byte, cuts, or puts a byte in.
pub(crate) fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next() as u8),
        2 => drop(bytes.remove(at)),
        3 => bytes[at] = 97 + random.below(25) as u8,
        _ => bytes[at] = random.next() as u8,
    }
}

fn write(random: &mut Random, depth: u64, out: &mut Vec<u8>) {
    let count = random.below(6) as u32;
    match random.below(if depth == 0 { 24 } else { 34 }) {
        nth @ (0..=4 | 14..=16) => number(nth, random, out),
        5..=8 => atom(random, out),
        9 | 10 => counted(random, 109, out),
        11 => {
            let bytes: Vec<u8> = (0..=count).map(|_| random.next() as u8).collect();
            out.push(77);
            out.extend((bytes.len() as u32).to_be_bytes());
            out.push(1 + random.below(8) as u8);
            out.extend(bytes);
        }
        12 => out.push(106),
        13 => {
            out.extend([107, 0, count as u8]);
            out.extend((0..count).map(|_| random.next() as u8));
        }
        21 => out.extend([104, 0]),
        22 => out.extend([116, 0, 0, 0, 0]),
        23 => out.extend([107, 0, 0]),
        nth @ 17..=20 => identifier(nth, random, out),
        nth => container(nth, random, depth, count, out),
    }
}

fn number(nth: u64, random: &mut Random, out: &mut Vec<u8>) {
    match nth {
        0 | 1 => out.extend([97, random.next() as u8]),
        2 => {
            let value = if random.below(2) == 0 { random.below(300) as i32 } else { random.next() as i32 };
            out.push(98);
            out.extend(value.to_be_bytes());
        }
        3 => {
            out.push(70);
            let value = match random.below(3) {
                0 => f64::from_bits(random.next()),
                1 => random.below(1000) as f64 / 8.0,
                _ => -(random.below(1 << 60) as f64),
            };
            out.extend(value.to_bits().to_be_bytes());
        }
        4 => {
            out.push(99);
            let text = format!("{:.20e}", random.below(1 << 40) as f64 / 1024.0);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let mut field = format!("{mantissa}e+{exponent:0>2}").into_bytes();
            field.resize(31, 0);
            out.extend(field);
        }
        14 | 15 => {
            let length = random.below(12) as u8;
            out.extend([110, length, random.below(2) as u8]);
            out.extend((0..length).map(|_| random.next() as u8));
        }
        16 => {
            let length = random.below(300) as u32;
            out.push(111);
            out.extend(length.to_be_bytes());
            out.push(random.below(2) as u8);
            out.extend((0..length).map(|_| random.next() as u8));
        }
        _ => {}
    }
}

fn identifier(nth: u64, random: &mut Random, out: &mut Vec<u8>) {
    match nth {
        17 => pid(random, out),
        18 => {
            let tag = [89, 102, 120][random.below(3) as usize];
            out.push(tag);
            atom(random, out);
            if tag == 120 {
                out.extend((random.next() >> random.below(40)).to_be_bytes());
            } else {
                out.extend((random.next() as u32 >> random.below(20)).to_be_bytes());
            }
            creation(random, tag == 102, out);
        }
        19 => {
            let tag = [90, 114, 101][random.below(3) as usize];
            out.push(tag);
            let words = if tag == 101 { 1 } else { random.below(5) as u16 + 1 };
            if tag != 101 {
                out.extend(words.to_be_bytes());
            }
            atom(random, out);
            if tag != 101 {
                creation(random, tag == 114, out);
            }
            for nth in 0..words {
                // The first of old ones has 18 bits.
                let shift = if nth == 0 && tag != 90 { 14 } else { 0 };
                out.extend((random.next() as u32 >> shift).to_be_bytes());
            }
            if tag == 101 {
                creation(random, true, out);
            }
        }
        20 => {
            out.push(113);
            atom(random, out);
            atom(random, out);
            out.extend([97, random.below(256) as u8]);
        }
        _ => {}
    }
}

fn container(nth: u64, random: &mut Random, depth: u64, count: u32, out: &mut Vec<u8>) {
    match nth {
        24 | 25 => {
            if random.below(4) == 0 {
                out.extend([105, 0, 0, 0, count as u8]);
            } else {
                out.extend([104, count as u8]);
            }
            (0..count).for_each(|_| write(random, depth - 1, out));
        }
        26..=28 => {
            out.extend([108, 0, 0, 0, count as u8]);
            (0..count).for_each(|_| write(random, depth - 1, out));
            if random.below(3) == 0 { write(random, depth - 1, out) } else { out.push(106) }
        }
        29 => {
            out.extend([108, 0, 0, 0, count as u8]);
            out.extend((0..count).flat_map(|_| [97, random.next() as u8]).collect::<Vec<u8>>());
            out.push(106);
        }
        30..=32 => {
            let count = if random.below(8) == 0 { random.below(50) as u8 } else { count as u8 };
            out.extend([116, 0, 0, 0, count]);
            for key in 0..count {
                match random.below(6) {
                    0 => write(random, depth - 1, out),
                    1 => out.extend([104, 1, 97, key]),
                    2 => out.extend([110, 1, 0, key]),
                    3 => out.extend([116, 0, 0, 0, 2, 97, key, 106, 97, 255, 106]),
                    _ => out.extend([97, key]),
                }
                write(random, depth - 1, out);
            }
        }
        _ => {
            let free = random.below(3) as u8;
            let at = out.len();
            out.extend([112, 0, 0, 0, 0, random.next() as u8]);
            out.extend((0..20).map(|_| random.next() as u8));
            out.extend([0, 0, 0, free]);
            atom(random, out);
            out.extend([97, random.next() as u8, 98, 0, random.next() as u8, 3, 4]);
            pid(random, out);
            (0..free).for_each(|_| write(random, depth - 1, out));
            let size = (out.len() - at - 1) as u32;
            out[at + 1..at + 5].copy_from_slice(&size.to_be_bytes());
        }
    }
}

fn counted(random: &mut Random, tag: u8, out: &mut Vec<u8>) {
    let length = random.below(20) as u32;
    out.push(tag);
    out.extend(length.to_be_bytes());
    out.extend((0..length).map(|_| random.next() as u8));
}

/// No name of the node that reads: its own identifiers have another form there.
fn atom(random: &mut Random, out: &mut Vec<u8>) {
    let names = ["ok", "", "error", "äöü", "你好", "Hello World", "undefined", "a@b", "node@example", "'"];
    let name = names[random.below(names.len() as u64) as usize];
    let latin: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    match (random.below(4), latin) {
        (0, Some(latin)) => {
            out.extend([100, 0, latin.len() as u8]);
            out.extend(latin);
        }
        (1, Some(latin)) => {
            out.extend([115, latin.len() as u8]);
            out.extend(latin);
        }
        (2, _) => {
            out.extend([118, 0, name.len() as u8]);
            out.extend(name.bytes());
        }
        _ => {
            out.extend([119, name.len() as u8]);
            out.extend(name.bytes());
        }
    }
}

fn pid(random: &mut Random, out: &mut Vec<u8>) {
    let is_old = random.below(3) == 0;
    out.push(if is_old { 103 } else { 88 });
    atom(random, out);
    out.extend((random.next() as u32 >> random.below(30)).to_be_bytes());
    out.extend((random.next() as u32 >> random.below(30)).to_be_bytes());
    creation(random, is_old, out);
}

fn creation(random: &mut Random, is_old: bool, out: &mut Vec<u8>) {
    if is_old {
        out.push(random.below(4) as u8);
    } else {
        out.extend((random.next() as u32).to_be_bytes());
    }
}

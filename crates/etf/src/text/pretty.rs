//! Terms over lines of 80 columns, as `~p` breaks them.
//!
//! The term is written on one line first, and where each term lies in that line is noted: what fits is a piece of it. Then
//! the layout is walked up to three times, as how far tagged tuples indent depends on how deep they get: with
//! the nodes' own stack, and once over each term, so that time is that of the output.

use std::fmt::{self, Write};

use super::print::{self, Out, Style};
use crate::term::{Elements, Pairs, Term, TermKind};

/// Columns of a line.
const LINE: usize = 80;
/// Lines begin with at most so many spaces, as depth would else make an output that grows by the square.
const INDENT_MAX: usize = 256;

pub(super) fn write(out: &mut impl Write, term: Term<'_>, style: Style, line_bytes_max: usize) -> fmt::Result {
    let line = Line::of(term, style, line_bytes_max)?;
    if line.text.len() < LINE - 1 || line.width(term) < LINE - 1 {
        return out.write_str(&line.text);
    }
    // Behind their tags, or else by 4 if no tuple then begins beyond half of the line, or else by 1.
    let tags = [Tags::Behind, Tags::By(4)].into_iter().find(|tags| Layout::<String>::fits(&line, term, *tags));
    let mut layout = Layout { line: &line, tags: tags.unwrap_or(Tags::By(1)), out: Some(out), open: Vec::new() };
    layout.all(term)
}

/// How far the elements of a tuple that begins with an atom are indented.
#[derive(Clone, Copy)]
enum Tags {
    /// As far as the second one.
    Behind,
    /// By so many columns, where the second one is further away.
    By(usize),
}

/// A term on one line.
struct Line {
    text: String,
    characters: usize,
    spans: Vec<Span>,
    /// The node of the first span.
    from: usize,
    bytes_max: usize,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
    characters: usize,
}

impl Line {
    fn of(term: Term<'_>, style: Style, bytes_max: usize) -> Result<Self, fmt::Error> {
        let nodes = term.tape.next(term.at) - term.at;
        let spans = vec![Span::default(); nodes];
        let mut line = Self { text: String::new(), characters: 0, spans, from: term.at, bytes_max };
        print::write(&mut line, term, style)?;
        Ok(line)
    }

    fn span(&self, term: Term<'_>) -> Span {
        self.spans[term.at - self.from]
    }

    fn width(&self, term: Term<'_>) -> usize {
        self.span(term).characters
    }

    fn text(&self, term: Term<'_>) -> &str {
        let span = self.span(term);
        &self.text[span.start..span.end]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.characters += text.chars().count();
        self.text.push_str(text);
        if self.text.len() > self.bytes_max { Err(fmt::Error) } else { Ok(()) }
    }

    fn write_char(&mut self, character: char) -> fmt::Result {
        self.characters += 1;
        self.text.push(character);
        Ok(())
    }
}

impl Out for Line {
    fn begins(&mut self, term: Term<'_>) {
        let span = &mut self.spans[term.at - self.from];
        (span.start, span.characters) = (self.text.len(), self.characters);
    }

    fn ends(&mut self, term: Term<'_>) {
        let span = &mut self.spans[term.at - self.from];
        (span.end, span.characters) = (self.text.len(), self.characters - span.characters);
    }
}

/// Where something begins.
#[derive(Clone, Copy)]
struct Place {
    /// The column, from 1.
    column: usize,
    /// How many brackets close behind it.
    closings: usize,
    /// Characters of the line before it, without its indentation.
    used: usize,
}

/// What may be broken, and what may not.
enum Shape<'a> {
    Text,
    Binary,
    List(Items<'a>, Option<Term<'a>>),
    Tuple(Elements<'a>),
    Map(Pairs<'a>),
}

#[derive(Clone, Copy)]
enum Items<'a> {
    Terms(Elements<'a>),
    Bytes(&'a [u8]),
}

enum Item<'a> {
    Term(Term<'a>),
    Byte(u8),
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Items::Terms(elements) => elements.next().map(Item::Term),
            Items::Bytes(bytes) => bytes.split_off_first().map(|byte| Item::Byte(*byte)),
        }
    }
}

impl Items<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Items::Terms(elements) => elements.len() == 0,
            Items::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

/// A container of which something is to be written.
struct Container<C> {
    rest: C,
    is_first: bool,
    /// The column of what begins a line.
    left: usize,
    place: Place,
}

enum Open<'a> {
    Sequence(Sequence<'a>),
    Map(Container<Pairs<'a>>),
    Value(Term<'a>, Place),
    End(&'static str),
}

/// A list or a tuple.
struct Sequence<'a> {
    items: Container<Items<'a>>,
    tail: Option<Term<'a>>,
    end: &'static str,
}

impl<C> Container<C> {
    fn new(rest: C, place: Place, bracket: usize, used: usize) -> Self {
        let place = Place { column: place.column + bracket, used: place.used + used, ..place };
        Self { rest, is_first: true, left: place.column, place }
    }

    /// Where the next one begins, of which `is_last` may be true.
    fn here(&self, is_last: bool) -> Place {
        Place { closings: if is_last { self.place.closings + 1 } else { 0 }, ..self.place }
    }

    fn moves(&mut self, width: usize) {
        self.place.column += width;
        self.place.used += width;
    }

    /// What comes next begins a line.
    fn breaks(&mut self) {
        self.place.column = self.left + LINE;
    }
}

impl Place {
    fn takes(self, width: usize) -> bool {
        width + self.column + self.closings < LINE
    }

    /// The same for what has a comma before it, and perhaps one behind it.
    fn takes_next(self, width: usize) -> bool {
        width + 1 + self.column + self.closings.max(1) < LINE
    }
}

struct Layout<'l, 'a, W> {
    line: &'l Line,
    tags: Tags,
    /// Nothing if only the indentation is tried.
    out: Option<&'l mut W>,
    open: Vec<Open<'a>>,
}

impl<'a, W: Write> Layout<'_, 'a, W> {
    /// Whether no tagged tuple begins its elements beyond half of the line.
    fn fits(line: &Line, term: Term<'_>, tags: Tags) -> bool {
        Layout::<W> { line, tags, out: None, open: Vec::new() }.all(term).is_ok()
    }

    fn all(&mut self, term: Term<'a>) -> fmt::Result {
        self.term(term, Place { column: 1, closings: 0, used: 0 })?;
        while let Some(open) = self.open.pop() {
            match open {
                Open::Sequence(sequence) => self.sequence(sequence)?,
                Open::Map(map) => self.map(map)?,
                Open::Value(term, place) => {
                    self.put(" =>")?;
                    self.new_line(place.column)?;
                    self.term(term, place)?;
                }
                Open::End(end) => self.put(end)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, text: &str) -> fmt::Result {
        self.out.as_mut().map_or(Ok(()), |out| out.write_str(text))
    }

    fn new_line(&mut self, column: usize) -> fmt::Result {
        const SPACES: &str = match str::from_utf8(&[b' '; INDENT_MAX]) {
            Ok(spaces) => spaces,
            Err(_) => "",
        };
        self.put("\n")?;
        self.put(&SPACES[..(column - 1).min(INDENT_MAX)])
    }

    fn flat(&mut self, term: Term<'_>) -> fmt::Result {
        let line = self.line;
        self.put(line.text(term))
    }

    /// Writes a term, or begins it.
    fn term(&mut self, term: Term<'a>, place: Place) -> fmt::Result {
        if place.takes(self.line.width(term)) {
            return self.flat(term);
        }
        match self.shape(term) {
            Shape::Text => self.flat(term),
            Shape::Binary => self.binary(term, place),
            Shape::List(items, tail) => {
                self.open.push(Open::Sequence(Sequence { items: Container::new(items, place, 1, 1), tail, end: "]" }));
                self.put("[")
            }
            Shape::Tuple(elements) => self.tuple(elements, place),
            Shape::Map(pairs) => {
                self.open.push(Open::Map(Container::new(pairs, place, 2, 1)));
                self.put("#{")
            }
        }
    }

    fn shape(&self, term: Term<'a>) -> Shape<'a> {
        let text = self.line.text(term);
        match term.kind() {
            TermKind::List(elements) if text.starts_with('[') => Shape::List(Items::Terms(elements), None),
            TermKind::ImproperList(elements, tail) => Shape::List(Items::Terms(elements), Some(tail)),
            TermKind::Bytes(bytes) if text.starts_with('[') => Shape::List(Items::Bytes(bytes), None),
            TermKind::Tuple(elements) if elements.len() > 0 => Shape::Tuple(elements),
            TermKind::Map(pairs) if pairs.len() > 0 => Shape::Map(pairs),
            TermKind::Binary(bytes) if !bytes.is_empty() && !text.starts_with("<<\"") => Shape::Binary,
            TermKind::Bits(_) => Shape::Binary,
            _ => Shape::Text,
        }
    }

    fn is_text(&self, term: Term<'a>) -> bool {
        matches!(self.shape(term), Shape::Text)
    }

    fn tuple(&mut self, mut elements: Elements<'a>, place: Place) -> fmt::Result {
        let tag = elements.clone().next().filter(|tag| tag.as_atom().is_some() && elements.len() > 1);
        let Some(tag) = tag else {
            let items = Container::new(Items::Terms(elements), place, 1, 1);
            self.open.push(Open::Sequence(Sequence { items, tail: None, end: "}" }));
            return self.put("{");
        };
        elements.next();
        self.put("{")?;
        self.flat(tag)?;
        // With the bracket and the comma.
        let width = self.line.width(tag) + 2;
        let mut items = Container::new(Items::Terms(elements), place, width, width);
        match self.tags {
            Tags::By(indent) if width > indent => {
                items.left = place.column + indent;
                items.place.used -= 1;
                items.is_first = false;
                self.begins_early(items.left <= LINE / 2)?;
            }
            _ => {
                self.begins_early(items.left < LINE / 2)?;
                self.put(",")?;
            }
        }
        self.open.push(Open::Sequence(Sequence { items, tail: None, end: "}" }));
        Ok(())
    }

    /// While it is tried how far tags indent, elements of tagged tuples must begin before half of the line.
    fn begins_early(&self, is_early: bool) -> fmt::Result {
        if self.out.is_none() && !is_early { Err(fmt::Error) } else { Ok(()) }
    }

    fn sequence(&mut self, mut sequence: Sequence<'a>) -> fmt::Result {
        let items = &mut sequence.items;
        while let Some(item) = items.rest.next() {
            let (width, is_text) = match item {
                Item::Term(term) => (self.line.width(term), self.is_text(term)),
                Item::Byte(byte) => (1 + usize::from(byte > 9) + usize::from(byte > 99), true),
            };
            let is_last = items.rest.is_empty();
            if !std::mem::take(&mut items.is_first) {
                self.put(",")?;
                if is_text && items.here(is_last).takes_next(width) {
                    items.moves(1);
                } else {
                    self.new_line(items.left)?;
                    (items.place.column, items.place.used) = (items.left, 0);
                }
            }
            let here = items.here(is_last);
            if is_text && here.takes(width) {
                items.moves(width);
            } else {
                items.breaks();
            }
            match item {
                Item::Byte(byte) => self.out.as_mut().map_or(Ok(()), |out| write!(out, "{byte}"))?,
                Item::Term(term) if is_text => self.flat(term)?,
                Item::Term(term) => {
                    self.open.push(Open::Sequence(sequence));
                    return self.term(term, here);
                }
            }
        }
        match sequence.tail {
            Some(tail) => self.tail(tail, &sequence.items, sequence.end),
            None => self.put(sequence.end),
        }
    }

    fn tail(&mut self, tail: Term<'a>, items: &Container<Items<'a>>, end: &'static str) -> fmt::Result {
        self.put("|")?;
        let place = items.here(true);
        if self.is_text(tail) && place.takes(self.line.width(tail) + 1) {
            self.flat(tail)?;
            return self.put(end);
        }
        self.new_line(items.left)?;
        self.open.push(Open::End(end));
        // While it is tried how far tags indent, OTP takes the tail to lie behind the list.
        let column = if self.out.is_some() { items.left } else { place.column };
        self.term(tail, Place { column, used: 0, ..place })
    }

    fn map(&mut self, mut map: Container<Pairs<'a>>) -> fmt::Result {
        while let Some((key, value)) = map.rest.next() {
            let is_last = map.rest.len() == 0;
            let width = self.line.width(key) + 4 + self.line.width(value);
            let is_text = self.is_text(key) && self.is_text(value);
            if !std::mem::take(&mut map.is_first) {
                self.put(",")?;
                if is_text && map.here(is_last).takes_next(width) {
                    map.moves(1);
                } else {
                    self.new_line(map.left)?;
                    (map.place.column, map.place.used) = (map.left, 0);
                }
            }
            let here = map.here(is_last);
            let fits = here.takes(width);
            if fits && is_text {
                map.moves(width);
            } else {
                map.breaks();
            }
            if !fits {
                let indent = if let Tags::By(indent) = self.tags { indent } else { 4 };
                let place = Place { column: map.left + indent, used: 0, ..here };
                self.open.extend([Open::Map(map), Open::Value(value, place)]);
                return self.term(key, here);
            }
            self.flat(key)?;
            self.put(" => ")?;
            self.flat(value)?;
        }
        self.put("}")
    }

    /// Breaks a binary between its bytes.
    fn binary(&mut self, term: Term<'_>, place: Place) -> fmt::Result {
        if self.out.is_none() {
            return Ok(());
        }
        let line = self.line;
        let column = place.column + 2;
        // A term that is hardly too long for one line leaves less than the line has.
        let room = LINE.saturating_sub(column).min((line.characters - 4).saturating_sub(place.used));
        let room = room.saturating_sub(place.closings).max(8);
        let text = line.text(term);
        self.put("<<")?;
        let mut left = room;
        for piece in text[2..text.len() - 2].split_inclusive(',') {
            if piece.len() > left {
                self.new_line(column)?;
                left = room;
            }
            left = left.saturating_sub(piece.len());
            self.put(piece)?;
        }
        self.put(">>")
    }
}

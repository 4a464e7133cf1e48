//! BERT-RPC 1.0 (bert-rpc.org): calls as terms over TCP.
//!
//! A packet is its length (32 bits, big endian) and a term. `{call, Module, Function, Arguments}` is answered by `{reply, Result}` or an error,
//! `{cast, …}` by `{noreply}` at once. `{info, stream, []}` before a call, or before its reply, says that a stream of bytes follows it:
//! chunks with their length, up to one of no bytes. Other information packets (`callback`, `cache`) are taken and have no effect.

mod serve;

use magpie_etf::{BuildError, Builder, Decoder, Encoder, MinorVersion, Reason, Tape, Term, TermKind};

use crate::functions::Failure;
use crate::tapes::{number, owned};

pub use serve::serve;

/// What a packet asks.
#[derive(Debug)]
pub(crate) enum Packet {
    /// `{call, …}`, or with `true` `{cast, …}`.
    Call { is_cast: bool, module: String, function: String, arguments: Tape<'static> },
    /// `{info, stream, []}`
    Stream,
    /// `{info, …}`
    Info,
}

/// Whose fault it is that there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `{protocol, 1, …}`: the length is more than a packet may have.
    Header(String),
    /// `{protocol, 2, …}`: the packet is no call.
    Data(String),
    /// `{server, 0, …}`
    Server(String),
    /// The same: the packet takes more memory than so many bytes.
    TooMuchMemory(usize),
    /// `{server, 1, …}`
    NoModule(String),
    /// `{server, 2, …}`
    NoFunction(String),
    /// `{user, …}`
    User(Failure),
}

impl Packet {
    /// Reads a packet without its length.
    pub(crate) fn read(decoder: &mut Decoder, bytes: &[u8]) -> Result<Self, Fault> {
        let tape = decoder.decode_all(bytes).map_err(|error| match error.reason {
            Reason::TapeTooLarge(memory_max) => Fault::TooMuchMemory(memory_max),
            _ => Fault::Data(error.to_string()),
        })?;
        let no_call =
            || Fault::Data("neither {call, M, F, A} nor {cast, M, F, A} nor {info, Command, Options}".to_owned());
        let parts: Vec<Term<'_>> = tape.root().as_tuple().ok_or_else(no_call)?.collect();
        let atom = |index: usize| parts.get(index).and_then(|part| part.as_atom());
        match (atom(0), &parts[..]) {
            (Some("info"), [_, _, _]) => Ok(if atom(1) == Some("stream") { Self::Stream } else { Self::Info }),
            (Some(kind @ ("call" | "cast")), [_, _, _, arguments]) => {
                let (Some(module), Some(function)) = (atom(1), atom(2)) else { return Err(no_call()) };
                let is_list = matches!(arguments.kind(), TermKind::Nil | TermKind::List(_) | TermKind::Bytes(_));
                if !is_list {
                    return Err(Fault::Data("the arguments are no list".to_owned()));
                }
                let (module, function) = (module.to_owned(), function.to_owned());
                Ok(Self::Call { is_cast: kind == "cast", module, function, arguments: owned(*arguments) })
            }
            _ => Err(no_call()),
        }
    }
}

/// The elements of a list, each on a tape of its own.
pub(crate) fn elements(list: &Tape<'_>) -> Vec<Tape<'static>> {
    match list.root().kind() {
        TermKind::List(elements) => elements.map(owned).collect(),
        TermKind::Bytes(bytes) => bytes.iter().map(|byte| number(i64::from(*byte))).collect(),
        _ => Vec::new(),
    }
}

/// `{reply, Result}`, without its length.
///
/// # Errors
/// If the result has what BERT has not: pids, funs, bit strings.
pub(crate) fn reply(result: Term<'_>) -> Result<Vec<u8>, String> {
    let mut builder = Builder::new();
    match put_reply(&mut builder, result) {
        Ok(()) => bytes(builder),
        Err(NotBert::Build(error)) => Err(error.to_string()),
        Err(NotBert::Kind(what)) => Err(format!("the result has {what}, which BERT has not")),
    }
}

fn put_reply(builder: &mut Builder, result: Term<'_>) -> Result<(), NotBert> {
    builder.begin_tuple();
    builder.atom("reply")?;
    put(builder, result)?;
    Ok(builder.end()?)
}

/// `{info, stream, []}`, without its length.
pub(crate) fn stream_follows() -> Vec<u8> {
    packet(|builder| {
        builder.begin_tuple();
        builder.atom("info")?;
        builder.atom("stream")?;
        builder.begin_list();
        builder.end()?;
        builder.end()
    })
}

/// `{noreply}`, without its length.
pub(crate) fn no_reply() -> Vec<u8> {
    packet(|builder| {
        builder.begin_tuple();
        builder.atom("noreply")?;
        builder.end()
    })
}

impl Fault {
    /// `{error, {Type, Code, Class, Detail, Backtrace}}`, without its length.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let too_much;
        let (kind, code, class, detail) = match self {
            Self::TooMuchMemory(memory_max) => {
                too_much = format!("the packet takes more than {memory_max} bytes of memory");
                ("server", 0, "ServerError", &too_much)
            }
            Self::Header(detail) => ("protocol", 1, "ProtocolError", detail),
            Self::Data(detail) => ("protocol", 2, "ProtocolError", detail),
            Self::Server(detail) => ("server", 0, "ServerError", detail),
            Self::NoModule(detail) => ("server", 1, "NoSuchModule", detail),
            Self::NoFunction(detail) => ("server", 2, "NoSuchFunction", detail),
            Self::User(failure) => ("user", failure.code, failure.class, &failure.detail),
        };
        packet(|builder| {
            builder.begin_tuple();
            builder.atom("error")?;
            builder.begin_tuple();
            builder.atom(kind)?;
            builder.integer(code);
            builder.binary(class.as_bytes());
            builder.binary(detail.as_bytes());
            builder.begin_list();
            builder.end()?;
            builder.end()?;
            builder.end()
        })
    }
}

fn packet(build: impl FnOnce(&mut Builder) -> Result<(), BuildError>) -> Vec<u8> {
    let mut builder = Builder::new();
    build(&mut builder).expect("what begins ends");
    bytes(builder).expect("it has nothing that BERT has not")
}

fn bytes(builder: Builder) -> Result<Vec<u8>, String> {
    let tape = builder.finish().map_err(|error| error.to_string())?;
    // The tags of BERT are those of then: floats as text, atoms in Latin-1.
    let encoder = Encoder { minor_version: MinorVersion::Zero, ..Encoder::default() };
    let mut bytes = Vec::new();
    encoder.encode_into(tape.root(), &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

enum NotBert {
    Build(BuildError),
    Kind(&'static str),
}

impl From<BuildError> for NotBert {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

/// Copies a term, with maps as `{bert, dict, …}` and truth values as `{bert, true}`.
fn put(builder: &mut Builder, term: Term<'_>) -> Result<(), NotBert> {
    enum Rest<'a> {
        Terms(magpie_etf::Elements<'a>),
        Pairs(magpie_etf::Pairs<'a>),
        Term(Term<'a>),
        End,
        EndWithTail,
    }
    let mut rest = vec![Rest::Term(term)];
    while let Some(next) = rest.pop() {
        let term = match next {
            Rest::End => {
                builder.end()?;
                continue;
            }
            Rest::EndWithTail => {
                builder.end_with_tail()?;
                continue;
            }
            Rest::Terms(mut terms) => {
                let Some(term) = terms.next() else { continue };
                rest.push(Rest::Terms(terms));
                term
            }
            Rest::Pairs(mut pairs) => {
                let Some((key, value)) = pairs.next() else { continue };
                builder.begin_tuple();
                rest.extend([Rest::Pairs(pairs), Rest::End, Rest::Term(value)]);
                key
            }
            Rest::Term(term) => term,
        };
        match term.kind() {
            TermKind::Integer(integer) => builder.any_integer(integer),
            TermKind::Float(float) => builder.float(float)?,
            TermKind::Atom(name @ ("true" | "false")) => {
                builder.begin_tuple();
                builder.atom("bert")?;
                builder.atom(name)?;
                builder.end()?;
            }
            TermKind::Atom(name) if name.chars().all(|c| c <= '\u{ff}') => builder.atom(name)?,
            TermKind::Atom(_) => return Err(NotBert::Kind("an atom beyond Latin-1")),
            TermKind::Binary(bytes) => builder.binary(bytes),
            TermKind::Bytes(bytes) => builder.bytes(bytes),
            TermKind::Nil => {
                builder.begin_list();
                builder.end()?;
            }
            TermKind::List(elements) => {
                builder.begin_list();
                rest.extend([Rest::End, Rest::Terms(elements)]);
            }
            TermKind::ImproperList(elements, tail) => {
                builder.begin_list();
                rest.extend([Rest::EndWithTail, Rest::Term(tail), Rest::Terms(elements)]);
            }
            TermKind::Tuple(elements) => {
                builder.begin_tuple();
                rest.extend([Rest::End, Rest::Terms(elements)]);
            }
            TermKind::Map(pairs) => {
                builder.begin_tuple();
                builder.atom("bert")?;
                builder.atom("dict")?;
                builder.begin_list();
                rest.extend([Rest::End, Rest::End, Rest::Pairs(pairs)]);
            }
            TermKind::Bits(_) => return Err(NotBert::Kind("a bit string")),
            TermKind::Pid(_) | TermKind::Port(_) | TermKind::Reference(_) => {
                return Err(NotBert::Kind("a pid, port or reference"));
            }
            _ => return Err(NotBert::Kind("a fun")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use magpie_etf::{decode, encode, text};

    use super::*;

    fn replied(result: &str) -> Result<String, String> {
        let tape = text::parse(result).unwrap();
        reply(tape.root()).map(|bytes| decode(&bytes).unwrap().root().to_string())
    }

    #[test]
    fn maps_and_truth_values_are_said_in_berts_words() {
        let result = replied("#{a => [true, {false, [1|2]}], {b} => 1.5}").unwrap();
        assert_eq!(result, "{reply,{bert,dict,[{a,[{bert,true},{{bert,false},[1|2]}]},{{b},1.5}]}}");
        assert_eq!(replied("<<1:3>>"), Err("the result has a bit string, which BERT has not".to_owned()));
        assert!(replied("'你'").is_err());
    }

    #[test]
    fn replies_have_the_tags_of_bert_alone() {
        let tape = text::parse("{1.0, 'é', [300], 5000000000, \"ab\", <<1>>, []}").unwrap();
        let bytes = reply(tape.root()).unwrap();
        let float = bytes.iter().position(|byte| *byte == 99).unwrap();
        assert_eq!(&bytes[float + 1..float + 5], b"1.00");
        assert!(bytes.windows(4).any(|window| window == [100, 0, 1, 0xe9]), "the atom is ATOM_EXT in Latin-1");
    }

    #[test]
    fn a_packet_is_a_call_a_cast_or_information() {
        let read = |text: &str| {
            let tape = text::parse(text).unwrap();
            Packet::read(&mut Decoder::default(), &encode(tape.root()))
        };
        match read("{call, nat, add, [1, 2]}").unwrap() {
            Packet::Call { is_cast: false, module, function, arguments } => {
                assert_eq!((module.as_str(), function.as_str()), ("nat", "add"));
                let numbers: Vec<String> = elements(&arguments).iter().map(|tape| tape.root().to_string()).collect();
                assert_eq!(numbers, ["1", "2"]);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read("{info, stream, []}"), Ok(Packet::Stream)));
        assert!(matches!(read("{info, cache, []}"), Ok(Packet::Info)));
        for bad in ["{call, nat, add, none}", "{call, 1, add, []}", "call", "{reply, 1}"] {
            assert!(matches!(read(bad), Err(Fault::Data(_))), "{bad}");
        }
    }
}

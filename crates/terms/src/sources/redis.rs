//! A value of a Redis server, or of one that speaks as Redis does (RESP2).
//!
//! Four commands of the protocol are all that is needed, and a value that is too long must not be read into memory, which libraries
//! do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::net::sockopt;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;

use super::parameter::Parameter;
use super::redis_url::{Address, Url};
use super::remote::{Driver, Failure, KEEP_ALIVE, Remote, Server};
use super::{Found, Limits, Source, SourceError};
use crate::config::TermSource;
use crate::tls;

/// What reads one string. Others would change something, wait, or answer with what is no term.
const COMMANDS: &[&str] = &["GET", "HGET", "LINDEX", "GETRANGE"];
/// Lookups that wait to be sent.
const WAITING_MAX: usize = 1024;
/// A line of the protocol: a length, or an error with its text.
const LINE_BYTES_MAX: u64 = 4096;

/// The server at `url`; it is connected to when it is first asked.
pub fn open(source: &TermSource, limits: Limits) -> Result<impl Source + use<>, String> {
    let words: Vec<String> = source.query.split_whitespace().map(str::to_owned).collect();
    let Some((command, arguments)) = words.split_first() else {
        return Err("a source of the kind `redis` needs `query`, as `GET user:$1`".into());
    };
    if !COMMANDS.iter().any(|known| known.eq_ignore_ascii_case(command)) {
        return Err(format!("the query's command is {command:?}, and must be one of {}", COMMANDS.join(", ")));
    }
    if !arguments.iter().any(|word| word.contains("$1")) {
        return Err("the query needs `$1` for the key".into());
    }
    let url = Url::parse(&source.url)?;
    let tls = match &url.verify {
        Some(verify) => Some(TlsConnector::from(Arc::new(tls::client(verify)?))),
        None => None,
    };
    Ok(Remote::new(Redis { place: format!("Redis at {url}"), url, tls, words, limits }, source.key, limits))
}

struct Redis {
    url: Url,
    tls: Option<TlsConnector>,
    place: String,
    words: Vec<String>,
    limits: Limits,
}

struct Connection {
    requests: mpsc::Sender<Request>,
    driver: Driver,
}

struct Request {
    bytes: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// What the server says to one command.
enum Answer {
    Value(Bytes),
    Nothing,
    /// `+OK` and numbers.
    Simple(String),
    Error(String),
    TooLong(u64),
}

impl Server for Redis {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let connection = self.dial().await.map_err(|error| error.to_string())?;
        let login = match &self.url.user {
            Some((user, password)) if user.is_empty() => Some(vec!["AUTH", password.as_str()]),
            Some((user, password)) => Some(vec!["AUTH", user.as_str(), password.as_str()]),
            None => None,
        };
        let database = self.url.database.to_string();
        let select = (self.url.database != 0).then(|| vec!["SELECT", &database]);
        for words in [login, select].into_iter().flatten() {
            let words = words.into_iter().map(|word| word.as_bytes().to_vec());
            match connection.ask(command(words)).await {
                Some(Answer::Simple(_)) => {}
                Some(Answer::Error(text)) => return Err(text),
                Some(_) => return Err("the server does not speak as Redis does".into()),
                None => return Err("the server closed the connection".into()),
            }
        }
        Ok(connection)
    }

    fn is_closed(connection: &Connection) -> bool {
        connection.driver.is_finished()
    }

    async fn ask(&self, connection: &Connection, key: &Parameter) -> Result<Option<Found>, Failure> {
        let key = key.clone().into_bytes();
        // Words are told apart before the key is put in: whatever it has in it, it stays in its word.
        let words = self.words.iter().map(|word| put_in(word, &key));
        let wrong = match connection.ask(command(words)).await {
            // A part of no string is an empty string, and of one that is too short too.
            Some(Answer::Value(bytes)) if bytes.is_empty() && self.asks_for_part() => return Ok(None),
            Some(Answer::Value(bytes)) => return Ok(Some(Found { bytes, version: None })),
            Some(Answer::Nothing) => return Ok(None),
            None => return Err(Failure::Lost("the server closed the connection".into())),
            Some(Answer::TooLong(bytes)) => SourceError::too_long(bytes, self.limits),
            Some(Answer::Simple(text)) => {
                SourceError::Damaged(format!("the server answers {text:?}, which is no string"))
            }
            Some(Answer::Error(text)) if text.starts_with("WRONGTYPE") => SourceError::Damaged(text),
            Some(Answer::Error(text)) => SourceError::Unavailable(format!("{}: {text}", self.place)),
        };
        Err(Failure::Answer(wrong))
    }

    fn place(&self) -> &str {
        &self.place
    }
}

impl Redis {
    fn asks_for_part(&self) -> bool {
        self.words.first().is_some_and(|command| command.eq_ignore_ascii_case("GETRANGE"))
    }

    async fn dial(&self) -> io::Result<Connection> {
        match &self.url.address {
            Address::Unix(path) => Ok(Connection::over(UnixStream::connect(path).await?, self.limits)),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                let Some(tls) = &self.tls else { return Ok(Connection::over(stream, self.limits)) };
                let name = rustls_pki_types::ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                Ok(Connection::over(tls.connect(name, stream).await?, self.limits))
            }
        }
    }
}

impl Connection {
    fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static, limits: Limits) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let (reader, writer) = tokio::io::split(stream);
        let driver = Driver::spawn(async move {
            let asked = Mutex::new(VecDeque::new());
            // Where one of them ends so does the connection, and who waits for an answer is told.
            let outcome = tokio::select! {
                outcome = write(waiting, writer, &asked) => outcome,
                outcome = read(BufReader::new(reader), limits, &asked) => outcome,
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "connection to Redis ends");
            }
        });
        Self { requests, driver }
    }

    /// None if the connection is lost.
    async fn ask(&self, bytes: Vec<u8>) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { bytes, answer }).await.ok()?;
        answered.await.ok()
    }
}

/// So that a connection which a firewall has forgotten is noticed before somebody waits for it.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    Ok(sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?)
}

/// Those who were asked for and have no answer yet, in the order of their requests.
type Asked = Mutex<VecDeque<oneshot::Sender<Answer>>>;

async fn write(
    mut waiting: mpsc::Receiver<Request>,
    mut writer: impl AsyncWrite + Unpin,
    asked: &Asked,
) -> io::Result<()> {
    let mut requests = Vec::new();
    let mut bytes = Vec::new();
    while waiting.recv_many(&mut requests, WAITING_MAX).await > 0 {
        bytes.clear();
        for request in requests.drain(..) {
            bytes.extend_from_slice(&request.bytes);
            asked.lock().push_back(request.answer);
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    Ok(())
}

async fn read(mut reader: impl AsyncBufRead + Unpin, limits: Limits, asked: &Asked) -> io::Result<()> {
    loop {
        let answer = read_answer(&mut reader, limits).await?;
        let Some(who) = asked.lock().pop_front() else { return Err(io::Error::other("an answer nobody asked for")) };
        // Who has gone away wants no answer.
        drop(who.send(answer));
    }
}

async fn read_answer(reader: &mut (impl AsyncBufRead + Unpin), limits: Limits) -> io::Result<Answer> {
    let mut line = Vec::new();
    (&mut *reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(io::Error::from(if line.is_empty() {
            io::ErrorKind::UnexpectedEof
        } else {
            io::ErrorKind::InvalidData
        }));
    };
    let text = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
    match line.split_first() {
        Some((b'+' | b':', rest)) => Ok(Answer::Simple(text(rest))),
        Some((b'-', rest)) => Ok(Answer::Error(text(rest))),
        Some((b'$', b"-1")) => Ok(Answer::Nothing),
        Some((b'$', rest)) => {
            let is_number = rest.first().is_some_and(u8::is_ascii_digit);
            let length = text(rest).parse().ok().filter(|_| is_number).ok_or(io::ErrorKind::InvalidData)?;
            read_value(reader, length, limits).await
        }
        // Lists are what no command gives that can be asked.
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer that begins with {:?}", text(line)))),
    }
}

async fn read_value(reader: &mut (impl AsyncBufRead + Unpin), length: u64, limits: Limits) -> io::Result<Answer> {
    let answer = if usize::try_from(length).is_ok_and(|length| length <= limits.bytes_max) {
        let mut bytes = BytesMut::new();
        let mut limited = (&mut *reader).take(length);
        while limited.read_buf(&mut bytes).await? > 0 {}
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Answer::Value(bytes.freeze())
    } else {
        tokio::io::copy_buf(&mut (&mut *reader).take(length), &mut tokio::io::sink()).await?;
        Answer::TooLong(length)
    };
    let mut end = [0; 2];
    reader.read_exact(&mut end).await?;
    if end == *b"\r\n" { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A command as the server reads it: an array of strings, each with its length.
fn command(words: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn put_in(word: &str, key: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = word.split("$1").map(str::as_bytes).collect();
    parts.join(key)
}

/// Without the password.
impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn answers_are_read_the_same_however_they_are_cut() {
        let limits = Limits { bytes_max: 5, seconds_max: 1 };
        let said = b"$5\r\na\r\nbc\r\n+OK\r\n$-1\r\n$6\r\nabcdef\r\n$0\r\n\r\n-ERR no\r\n:42\r\n";
        for capacity in 1..said.len() {
            let mut reader = BufReader::with_capacity(capacity, &said[..]);
            let mut read = Vec::new();
            while let Ok(answer) = read_answer(&mut reader, limits).await {
                read.push(match answer {
                    Answer::Value(bytes) => format!("{bytes:?}"),
                    Answer::Nothing => "nothing".into(),
                    Answer::Simple(text) | Answer::Error(text) => text,
                    Answer::TooLong(bytes) => format!("{bytes} bytes"),
                });
            }
            assert_eq!(read, [r#"b"a\r\nbc""#, "OK", "nothing", "6 bytes", r#"b"""#, "ERR no", "42"], "{capacity}");
        }
    }

    #[test]
    fn a_key_stays_in_its_word() {
        let words = ["HGET", "user:$1", "$1"].into_iter();
        let sent = command(words.map(|word| put_in(word, b"a b\r\n*1\r\n$8\r\nFLUSHALL\r\n$1")));
        let word = "a b\r\n*1\r\n$8\r\nFLUSHALL\r\n$1";
        let (short, long) = (word.len(), word.len() + "user:".len());
        let expected = format!("*3\r\n$4\r\nHGET\r\n${long}\r\nuser:{word}\r\n${short}\r\n{word}\r\n");
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }
}

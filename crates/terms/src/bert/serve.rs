//! Connections of BERT-RPC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use magpie_etf::{Decoder, Limits, Tape};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Fault, Packet, no_reply, reply, stream_follows};
use crate::convert::Form;
use crate::counters::{CallEnd, Protocol};
use crate::functions::{Call, Function, Reply, Unknown};
use crate::http::input::{Collected, Held};
use crate::idle::Idle;
use crate::problem::Problem;
use crate::service::{Service, State, stopped};
use crate::turns::weight;

/// Bytes of a stream that are read at once.
const CHUNK_BYTES: usize = 32 << 10;

/// What a reply takes of memory until it is sent, in times of the result.
const REPLY_MEMORY: usize = 3;

/// Serves a connection until it ends, or until `stop` holds `true` and its call is done.
///
/// # Errors
/// If the connection breaks, or is idle for too long.
pub async fn serve<S>(
    service: &Arc<Service>,
    stream: S,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let open = service.counters().connection(Protocol::Bert);
    let idle = Idle::new(stream, open, Duration::from_secs(service.state().settings.idle_seconds_max));
    let (read, write) = tokio::io::split(idle);
    let mut connection = Connection {
        service,
        peer,
        reader: BufReader::new(read),
        writer: write,
        decoder: Decoder::new(Limits {
            inflated_bytes_max: service.state().settings.inflated_bytes_max,
            ..Limits::default()
        }),
    };
    let mut has_stream = false;
    loop {
        let packet = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Ok(()),
            packet = connection.packet() => packet?,
        };
        match packet {
            None => return Ok(()),
            Some(Ok((Packet::Stream, _))) => has_stream = true,
            Some(Ok((Packet::Info, _))) => {}
            Some(Ok((Packet::Call { is_cast, module, function, arguments }, held))) => {
                let asked = Asked { is_cast, module, function, arguments, has_stream, held };
                connection.call(asked).await?;
                has_stream = false;
            }
            Some(Err(fault)) => {
                tracing::debug!(%peer, ?fault, "a packet of BERT-RPC is no call");
                service.counters().bad_packet();
                connection.write(&fault.packet()).await?;
                if matches!(fault, Fault::Header(_)) || has_stream {
                    // Where the next packet begins is not known.
                    return Ok(());
                }
            }
        }
    }
}

struct Connection<'a, R, W> {
    service: &'a Arc<Service>,
    peer: SocketAddr,
    reader: R,
    writer: W,
    decoder: Decoder,
}

struct Asked {
    is_cast: bool,
    module: String,
    function: String,
    arguments: Tape<'static>,
    has_stream: bool,
    /// Room for the arguments, while the function has them.
    held: Held,
}

impl<R, W> Connection<'_, BufReader<R>, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// The next packet; none at the end.
    async fn packet(&mut self) -> io::Result<Option<Result<(Packet, Held), Fault>>> {
        let length = match self.reader.read_u32().await {
            Ok(length) => length as usize,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = self.service.state();
        let bytes_max = state.settings.term_bytes_max;
        if length > bytes_max {
            return Ok(Some(Err(Fault::Header(format!("a packet of {length} bytes is more than {bytes_max}")))));
        }
        let mut packet = Collected::new(&state.room, bytes_max);
        let mut chunk = vec![0; length.min(CHUNK_BYTES)];
        while packet.bytes.len() < length {
            let wanted = (length - packet.bytes.len()).min(CHUNK_BYTES);
            self.reader.read_exact(&mut chunk[..wanted]).await?;
            if let Err(problem) = packet.push(&chunk[..wanted]).await {
                return Ok(Some(Err(Fault::Header(problem.detail().to_owned()))));
            }
        }
        let (bytes, came) = packet.into_held();
        let decoder = &mut self.decoder;
        let reading = state.work.run(weight(&bytes), Form::JSON, |memory| {
            // The tape, and that of the arguments, with the bytes between them.
            decoder.limit_tape(memory / 3);
            match Packet::read(decoder, &bytes) {
                Err(Fault::TooMuchMemory(_)) => Err(Problem::too_much_memory(memory)),
                outcome => Ok(outcome),
            }
        });
        let (packet, mut held) = match reading.await {
            Ok((Ok(packet), held)) => (packet, held),
            Ok((Err(fault), _)) => return Ok(Some(Err(fault))),
            Err(problem) => return Ok(Some(Err(Fault::Server(problem.detail().to_owned())))),
        };
        drop((bytes, came));
        let memory = if let Packet::Call { arguments, .. } = &packet { arguments.memory() } else { 0 };
        Ok(Some(match state.room.fit(&mut held, memory).await {
            Ok(()) => Ok((packet, held)),
            Err(problem) => Err(Fault::Server(problem.detail().to_owned())),
        }))
    }

    async fn call(&mut self, asked: Asked) -> io::Result<()> {
        let Asked { is_cast, module, function, arguments, has_stream, held } = asked;
        let state = self.service.state();
        let behind = match state.functions.get(&module, &function) {
            Ok(behind) => Ok(Arc::clone(behind)),
            Err(Unknown::Module) => Err(Fault::NoModule(format!("there is no module {module}"))),
            Err(Unknown::Function) => Err(Fault::NoFunction(format!("there is no function {module}:{function}"))),
        };
        let (chunks, stream) = mpsc::channel(1);
        let call = Call { module, function, arguments, stream: has_stream.then_some(stream) };
        let (service, peer) = (self.service, self.peer);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let feed = async move { if has_stream { feed(reader, chunks).await } else { Ok(()) } };
        let answer = async move {
            if is_cast {
                return send(writer, &cast(service, &state, behind, call, held, peer)).await;
            }
            match called(&state, behind, call, held).await {
                Ok((packet, None, _held)) => send(writer, &packet).await,
                Ok((packet, Some(mut stream), _held)) => {
                    let idle = Duration::from_secs(state.settings.idle_seconds_max);
                    send(writer, &stream_follows()).await?;
                    send(writer, &packet).await?;
                    while let Some(chunk) = timeout(idle, stream.recv()).await.map_err(|_| io::ErrorKind::TimedOut)? {
                        send(writer, &chunk).await?;
                    }
                    send(writer, &[]).await
                }
                Err(fault) => send(writer, &fault.packet()).await,
            }
        };
        tokio::try_join!(feed, answer).map(|_| ())
    }

    async fn write(&mut self, packet: &[u8]) -> io::Result<()> {
        send(&mut self.writer, packet).await
    }
}

type Behind = Result<Arc<dyn Function>, Fault>;

/// Begins what nobody waits for; gives the answer.
fn cast(service: &Service, state: &State, behind: Behind, call: Call, held: Held, peer: SocketAddr) -> Vec<u8> {
    let counters = Arc::clone(service.counters());
    let running = Arc::clone(service.casts()).try_acquire_owned();
    let too_many = || Fault::Server("too many casts run".to_owned());
    let (behind, running) = match behind.and_then(|behind| Ok((behind, running.map_err(|_| too_many())?))) {
        Ok(begun) => begun,
        Err(fault) => {
            counters.call(true, CallEnd::Server);
            return fault.packet();
        }
    };
    let seconds = Duration::from_secs(state.settings.function_seconds_max);
    tokio::spawn(async move {
        let _running = (running, held);
        let end = match timeout(seconds, behind.call(call)).await {
            Ok(Ok(_)) => CallEnd::Reply,
            Ok(Err(failure)) => {
                tracing::info!(%peer, ?failure, "a cast of BERT-RPC failed");
                CallEnd::User
            }
            Err(_) => CallEnd::Server,
        };
        counters.call(true, end);
    });
    no_reply()
}

/// The reply, the stream behind it, and the room that it takes.
type Called = (Vec<u8>, Option<mpsc::Receiver<Bytes>>, Held);

async fn called(state: &State, behind: Behind, call: Call, held: Held) -> Result<Called, Fault> {
    let outcome = reply_of(state, behind, call, held).await;
    let end = match &outcome {
        Ok(_) => CallEnd::Reply,
        Err(Fault::User(_)) => CallEnd::User,
        Err(_) => CallEnd::Server,
    };
    state.counters.call(false, end);
    outcome
}

async fn reply_of(state: &State, behind: Behind, call: Call, held: Held) -> Result<Called, Fault> {
    let seconds = state.settings.function_seconds_max;
    let outcome = timeout(Duration::from_secs(seconds), behind?.call(call)).await;
    let outcome = outcome.map_err(|_| Fault::Server(format!("no answer in {seconds} seconds")))?;
    drop(held);
    let Reply { result, stream } = outcome.map_err(Fault::User)?;
    let busy = |problem: Problem| Fault::Server(problem.detail().to_owned());
    // The result, its copy in BERT's words, and the bytes of that.
    let mut held = state.room.take(REPLY_MEMORY * result.memory()).await.map_err(busy)?;
    let turn = state.work.turns.wait(result.weight()).await.map_err(busy)?;
    let packet = turn.run(|| reply(result.root())).map_err(Fault::Server)?;
    drop(result);
    state.room.fit(&mut held, packet.len()).await.map_err(busy)?;
    Ok((packet, stream, held))
}

/// Hands a stream's chunks to the function, up to the one of no bytes. A function that does not want them does not stop it.
async fn feed(reader: &mut (impl AsyncRead + Unpin), chunks: mpsc::Sender<Bytes>) -> io::Result<()> {
    loop {
        let mut left = reader.read_u32().await? as usize;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            let mut chunk = vec![0; left.min(CHUNK_BYTES)];
            reader.read_exact(&mut chunk).await?;
            left -= chunk.len();
            let _ = chunks.send(chunk.into()).await;
        }
    }
}

/// Writes a packet, or a chunk. An empty one is not sent but as the end of a stream.
async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let packet = [&length.to_be_bytes(), bytes].concat();
    writer.write_all(&packet).await?;
    writer.flush().await
}

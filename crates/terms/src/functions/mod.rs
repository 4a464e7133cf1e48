//! Functions that are called by `Module:Function`: over the web as `mod_esi` calls them, over BERT-RPC with terms.

mod connect;
pub(crate) mod conversions;
pub mod echo;
pub mod forward;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use magpie_etf::Tape;
use tokio::sync::mpsc;

use crate::http::body::Aborted;

/// A future on the heap.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is behind a name.
pub trait Function: Send + Sync {
    /// Answers a call over the web. The first chunk begins with headers, `Name: value\r\n` each, and an empty line; without, all of it is
    /// content, of the type `text/html`. The header `status: 201 Created` sets the status.
    fn esi<'a>(&'a self, call: &'a EsiCall, deliver: Deliver) -> Answering<'a, ()>;

    /// The whole answer over the web, with headers as the first chunk has them, of a function that need not wait for anything: it is
    /// asked before [`Function::esi`], which then is not.
    fn esi_at_once(&self, call: &EsiCall) -> Option<Bytes> {
        let _ = call;
        None
    }

    /// Answers a call of BERT-RPC.
    fn call<'a>(&'a self, call: Call) -> Answering<'a, Result<Reply, Failure>>;
}

/// A call over the web.
#[derive(Clone, Debug)]
pub struct EsiCall {
    /// The module.
    pub module: String,
    /// The function.
    pub function: String,
    /// How it was asked.
    pub method: Method,
    /// What it is asked.
    pub input: EsiInput,
    /// The request's headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: SocketAddr,
}

/// What a function is asked over the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EsiInput {
    /// GET, HEAD, DELETE: what stands behind the function's name, as it came, but that letters, digits and `-._~` are not escaped.
    Text(String),
    /// POST: the body.
    Body(Bytes),
    /// PUT, PATCH: the query and the body.
    QueryAndBody(Option<String>, Bytes),
}

/// Who asked has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Takes the chunks of an answer.
#[derive(Clone, Debug)]
pub struct Deliver(pub(crate) mpsc::Sender<Result<Bytes, Aborted>>);

impl Deliver {
    /// Sends a chunk, as soon as the one who asked takes it.
    ///
    /// # Errors
    /// If there is nobody any more who would take it.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(chunk.into())).await.map_err(|_| Gone)
    }

    /// Waits until nobody takes chunks any more.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    /// Ends the connection, so that nobody takes what was sent for the whole.
    pub async fn abort(&self) {
        let _ = self.0.send(Err(Aborted)).await;
    }
}

/// A call of BERT-RPC.
#[derive(Debug)]
pub struct Call {
    /// The module.
    pub module: String,
    /// The function.
    pub function: String,
    /// The list of arguments.
    pub arguments: Tape<'static>,
    /// What comes behind the call (`{info, stream, []}`), chunk by chunk.
    pub stream: Option<mpsc::Receiver<Bytes>>,
}

/// An answer of BERT-RPC.
#[derive(Debug)]
pub struct Reply {
    /// The result.
    pub result: Tape<'static>,
    /// What is sent behind it, chunk by chunk.
    pub stream: Option<mpsc::Receiver<Bytes>>,
}

impl From<Tape<'static>> for Reply {
    fn from(result: Tape<'static>) -> Self {
        Self { result, stream: None }
    }
}

/// Why a function has no result: `{error, {user, Code, Class, Detail, []}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A number that the function chooses.
    pub code: i64,
    /// What kind of failure it is, as `BadArgument`.
    pub class: &'static str,
    /// For people.
    pub detail: String,
}

impl Failure {
    /// The arguments are not those of the function.
    pub fn bad_argument(detail: impl Into<String>) -> Self {
        Self { code: 100, class: "BadArgument", detail: detail.into() }
    }
}

/// The functions that there are.
#[derive(Clone, Default)]
pub struct Functions {
    modules: HashMap<String, HashMap<String, Arc<dyn Function>>>,
}

/// A name that nothing is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The module.
    Module,
    /// The function in the module.
    Function,
}

impl Functions {
    /// Sets what is behind a name; `*` as the function is all that have none of their own.
    pub fn set(&mut self, module: impl Into<String>, function: impl Into<String>, behind: Arc<dyn Function>) {
        self.modules.entry(module.into()).or_default().insert(function.into(), behind);
    }

    /// Sets what is behind a name that nothing is behind yet, `*` included.
    pub(crate) fn set_unless_known(&mut self, module: &str, function: &str, behind: Arc<dyn Function>) {
        if self.get(module, function).is_err() {
            self.set(module, function, behind);
        }
    }

    /// What is behind a name.
    pub fn get(&self, module: &str, function: &str) -> Result<&Arc<dyn Function>, Unknown> {
        let functions = self.modules.get(module).ok_or(Unknown::Module)?;
        functions.get(function).or_else(|| functions.get("*")).ok_or(Unknown::Function)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.modules.iter().map(|(module, functions)| (module, functions.keys().collect::<Vec<_>>()));
        f.debug_map().entries(names).finish()
    }
}

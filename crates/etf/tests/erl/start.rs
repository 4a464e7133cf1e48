//! Starts `erl` on a module whose `main/1` connects to a port.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Compiles `source`, and waits until it has connected. Without `erl` this says what to install.
pub(crate) fn start(source: &str, arguments: &[&str]) -> (Child, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let run = format!(
        "try {{ok, M, Code}} = compile:file({source:?}, [binary]), \
         {{module, M}} = code:load_binary(M, {source:?}, Code), M:main({port}) \
         catch C:E -> io:format(\"~p~n\", [{{C, E}}]), halt(1) end."
    );
    let mut command = Command::new("erl");
    let child = command.arg("-noinput").args(arguments).args(["-eval", &run]).stdin(Stdio::null()).spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("missing: erl\n  apt-get update && apt-get install --no-install-recommends erlang-base")
        }
        Err(error) => panic!("erl does not start: {error}"),
    };
    let (socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    (child, socket)
}

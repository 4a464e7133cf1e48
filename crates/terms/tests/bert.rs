//! BERT-RPC, called from Erlang.

#![allow(clippy::unwrap_used)]

mod client;

use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{connect, start, start_with, term};
use magpie_etf::{Tape, text};
use magpie_terms::config::{TermFunction, Terms};
use magpie_terms::functions::{Answering, Call, Deliver, EsiCall, Failure, Function, Functions, Reply};
use magpie_terms::sources::{Found, Lookup, Source};

/// Evaluates Erlang with `Call(Term)` for a packet and its answer, and gives what it prints.
fn erl(port: u16, body: &str) -> String {
    let script = format!(
        "{{ok, S}} = gen_tcp:connect({{127,0,0,1}}, {port}, [binary, {{packet, 4}}, {{active, false}}]), \
         Send = fun(T) -> ok = gen_tcp:send(S, term_to_binary(T, [{{minor_version, 1}}])) end, \
         Recv = fun() -> {{ok, B}} = gen_tcp:recv(S, 0, 10000), binary_to_term(B) end, \
         Raw = fun() -> {{ok, B}} = gen_tcp:recv(S, 0, 10000), B end, \
         Call = fun(T) -> Send(T), Recv() end, \
         Print = fun(T) -> io:format(\"~w~n\", [T]) end, \
         {body}, halt()."
    );
    let output = match Command::new("erl").args(["-noshell", "-eval", &script]).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("missing: erl\n  apt-get update && apt-get install --no-install-recommends erlang-base")
        }
        Err(error) => panic!("erl does not start: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn erlang_calls_and_casts() {
    let service = start(Terms::default());
    let said = erl(
        service.bert.port(),
        "Print(Call({call, echo_server, echo, [{a, 1.5, [x|y], 1 bsl 100}]})), \
         Print(Call({call, echo_server, echo, [#{k => true}]})), \
         Print(Call({call, echo_server, echo, [7]})), \
         Print(Call({call, terms, to_json, [{user, 1}]})), \
         Print(Call({call, terms, to_text, [{user, 1}]})), \
         Print(Call({call, terms, from_json, [<<\"[1,2]\">>]})), \
         Print(Call({cast, echo_server, echo, [1]}))",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "{reply,{a,1.5,[x|y],1267650600228229401496703205376}}",
            "{reply,{bert,dict,[{k,{bert,true}}]}}",
            "{reply,7}",
            &format!("{{reply,{}}}", binary("{\"$tuple\":[{\"$atom\":\"user\"},1]}")),
            &format!("{{reply,{}}}", binary("{user,1}")),
            "{reply,[1,2]}",
            "{noreply}",
        ]
    );
}

fn binary(content: &str) -> String {
    let bytes: Vec<String> = content.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}

#[test]
fn calls_are_forwarded_with_their_arguments_as_a_term() {
    let behind = start(Terms::default());
    let function = |function: &str, path: &str| TermFunction {
        module: "far".into(),
        function: function.into(),
        url: format!("http://{}{path}", behind.http),
        ca_file: "".into(),
    };
    // One answers with JSON, one with the same bytes, one not at all.
    let function =
        vec![function("json", "/terms/to-json"), function("bytes", "/esi/echo_server:echo"), function("none", "/none")];
    let service = start(Terms { function, ..Terms::default() });
    let said = erl(
        service.bert.port(),
        "Print(Call({call, far, json, [1, {a}]})), Print(Call({call, far, bytes, [1, {a}]})), \
         {error, {user, 404, <<\"ForwardError\">>, _, []}} = Call({call, far, none, []})",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["{reply,[1,{a}]}", "{reply,[1,{a}]}"]);
}

#[test]
fn errors_say_whose_fault_it_is() {
    let service = start(Terms::default());
    let said = erl(
        service.bert.port(),
        "Kind = fun({error, {Type, Code, Class, Detail, []}}) when is_binary(Detail) -> {Type, Code, binary_to_list(Class)} end, \
         [io:format(\"~p~n\", [Kind(Call(T))]) || T <- [{call, none, f, []}, {call, echo_server, none, []}, \
         {call, echo_server, echo, [1, 2]}, {call, terms, from_json, [<<\"{\">>]}, {call, echo_server, echo, [self()]}, \
         {reply, 1}, {call, m, f, a}]], \
         ok = gen_tcp:send(S, <<131, 200>>), io:format(\"~p~n\", [Kind(Recv())]), \
         io:format(\"~p~n\", [Call({call, echo_server, echo, [still_here]})])",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "{server,1,\"NoSuchModule\"}",
            "{server,2,\"NoSuchFunction\"}",
            "{user,100,\"BadArgument\"}",
            "{user,100,\"BadArgument\"}",
            "{server,0,\"ServerError\"}",
            "{protocol,2,\"ProtocolError\"}",
            "{protocol,2,\"ProtocolError\"}",
            "{protocol,2,\"ProtocolError\"}",
            "{reply,still_here}",
        ]
    );
}

#[test]
fn streams_follow_calls_and_replies() {
    let service = start(Terms::default());
    let said = erl(
        service.bert.port(),
        "Send({info, stream, []}), Send({call, echo_server, echo, [stream]}), \
         ok = gen_tcp:send(S, <<\"one\">>), ok = gen_tcp:send(S, <<\"two\">>), ok = gen_tcp:send(S, <<>>), \
         Print(Recv()), Print(Recv()), Print(Raw()), Print(Raw()), Print(Raw()), \
         Send({info, stream, []}), Send({call, none, f, []}), ok = gen_tcp:send(S, <<\"lost\">>), ok = gen_tcp:send(S, <<>>), \
         Print(element(1, Recv())), \
         Send({info, cache, []}), Print(Call({call, echo_server, echo, [e]}))",
    );
    let lines: Vec<&str> = said.lines().collect();
    let expected = ["{info,stream,[]}", "{reply,stream}", &binary("one"), &binary("two"), "<<>>", "error", "{reply,e}"];
    assert_eq!(lines, expected);
}

/// Remembers what it was called with.
#[derive(Default)]
struct Remember(Mutex<Vec<String>>);

impl Function for Remember {
    fn esi<'a>(&'a self, _: &'a EsiCall, _: Deliver) -> Answering<'a, ()> {
        Box::pin(async {})
    }

    fn call<'a>(&'a self, call: Call) -> Answering<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let said = call.arguments.root().to_string();
            if said == "[wait]" {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            self.0.lock().unwrap().push(said);
            let nothing: Tape<'static> = text::parse("ok").unwrap();
            Ok(nothing.into())
        })
    }
}

#[test]
fn a_cast_is_done_though_nobody_waits_and_a_slow_call_is_given_up() {
    let remember = Arc::new(Remember::default());
    let mut functions = Functions::default();
    functions.set("memory", "*", Arc::clone(&remember) as Arc<dyn Function>);
    let service = start_with(Terms { function_seconds_max: 1, ..Terms::default() }, functions, Vec::new());
    let said = erl(
        service.bert.port(),
        "Print(Call({cast, memory, note, [cast]})), Print(Call({call, memory, note, [call]})), \
         {error, {Type, Code, _, _, _}} = Call({call, memory, note, [wait]}), Print({Type, Code})",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["{noreply}", "{reply,ok}", "{server,0}"]);
    let began = Instant::now();
    while remember.0.lock().unwrap().len() < 2 && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut noted = remember.0.lock().unwrap().clone();
    noted.sort();
    assert_eq!(noted, ["[call]", "[cast]"]);
}

#[test]
fn casts_that_run_are_counted_and_one_too_many_is_refused() {
    let mut functions = Functions::default();
    functions.set("memory", "*", Arc::new(Remember::default()));
    let service = start_with(Terms { function_seconds_max: 60, ..Terms::default() }, functions, Vec::new());
    let mut socket = connect(service.bert);
    let cast = term("{cast, memory, note, [wait]}");
    let mut answered = || {
        socket.write_all(&client::prefixed([&cast[..]])).unwrap();
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut answer).unwrap();
        magpie_etf::decode(&answer).unwrap().root().to_string()
    };
    for nth in 0..1024 {
        assert_eq!(answered(), "{noreply}", "{nth}");
    }
    assert!(answered().starts_with("{error,{server,0,"));
}

#[test]
fn what_claims_too_much_is_refused_and_an_idle_connection_closed() {
    let service = start(Terms { term_bytes_max: 1 << 16, idle_seconds_max: 1, ..Terms::default() });
    let mut socket = connect(service.bert);
    socket.write_all(&[0xff, 0xff, 0xff, 0xff, 131]).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    let said = magpie_etf::decode(&answer[4..]).unwrap().root().to_string();
    assert!(said.starts_with("{error,{protocol,1,"), "{said}");
    for sent in [&b""[..], &[0, 0, 0, 9, 131], &[0]] {
        let mut socket = connect(service.bert);
        socket.write_all(sent).unwrap();
        let began = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(10), "{sent:?}");
    }
    let mut socket = connect(service.bert);
    let call = term("{call, echo_server, echo, [1]}");
    socket.write_all(&client::prefixed([&call[..]])).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
}

/// Has one term under each key.
#[derive(Debug)]
struct Shelf;

impl Source for Shelf {
    fn get<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        let found = (key != "none").then(|| Found {
            bytes: term("#{mails => [{home, <<\"a@b\">>}], small => [10,20]}").into(),
            version: None,
        });
        Box::pin(async move { Ok(found) })
    }
}

#[test]
fn a_term_where_it_lies_is_given_whole_or_a_part_of_it() {
    let sources: Vec<(String, Arc<dyn Source>)> = vec![("users".into(), Arc::new(Shelf))];
    let service = start_with(Terms::default(), Functions::default(), sources);
    let said = erl(
        service.bert.port(),
        "Get = fun(A) -> case Call({call, terms, get, A}) of {error, E} -> Print(element(3, E)); R -> Print(R) end end, \
         Get([<<\"users/42\">>]), Get([<<\"users/42\">>, <<\"mails/home\">>]), Get([<<\"users/42\">>, <<\"small/2\">>]), \
         Get([<<\"users/42\">>, <<\"none\">>]), Get([<<\"users/none\">>]), Get([]), Get([1]), \
         Print(Call({call, terms, to_text, [<<131,97,1>>]}))",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            &format!("{{reply,{{bert,dict,[{{mails,[{{home,{}}}]}},{{small,[10,20]}}]}}}}", binary("a@b"))[..],
            &format!("{{reply,{}}}", binary("a@b")),
            "{reply,20}",
            &binary("NoSuchPart"),
            &binary("NoSuchKey"),
            &binary("BadArgument"),
            &binary("BadArgument"),
            &format!("{{reply,{}}}", binary("<<131,97,1>>")),
        ]
    );
}

#[test]
fn a_packet_that_becomes_too_much_is_told_and_the_next_is_answered() {
    let service = start(Terms { held_bytes_max: 8 << 20, term_bytes_max: 1 << 20, ..Terms::default() });
    let said = erl(
        service.bert.port(),
        "Packet = term_to_binary({call, terms, to_json, [lists:duplicate(2000000, [])]}, [compressed]), \
         ok = gen_tcp:send(S, Packet), {error, {Type, Code, Class, _, []}} = Recv(), Print({Type, Code, Class}), \
         Print(Call({call, echo_server, echo, [7]}))",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), [&format!("{{server,0,{}}}", binary("ServerError"))[..], "{reply,7}"]);
}

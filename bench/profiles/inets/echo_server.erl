%% What inets httpd answers with in `magpie-load terms`: the functions that people write for mod_esi.
-module(echo_server).
-export([start/2, echo/3, to_json/3]).

%% Starts httpd on a port, and writes the record that is asked for to `record.bin`.
start(Port, Folder) ->
    ok = file:write_file(filename:join(Folder, "record.bin"), term_to_binary(record())),
    {ok, _} = inets:start(httpd, [
        {port, Port}, {bind_address, {127, 0, 0, 1}}, {server_name, "localhost"},
        {server_root, Folder}, {document_root, Folder}, {max_clients, 1000},
        {modules, [mod_esi]}, {erl_script_alias, {"/esi", [echo_server]}}
    ]),
    ok.

echo(Session, _Env, Input) ->
    Text = uri_string:percent_decode(Input),
    mod_esi:deliver(Session, ["content-type: text/plain; charset=utf-8\r\n\r\n", unicode:characters_to_binary(Text)]).

to_json(Session, _Env, Body) ->
    Term = binary_to_term(list_to_binary(Body)),
    mod_esi:deliver(Session, ["content-type: application/json\r\n\r\n", json(Term)]).

json(Map) when is_map(Map) ->
    ["{", lists:join(",", [[json(Key), ":", json(Value)] || {Key, Value} <- maps:to_list(Map)]), "}"];
json(List) when is_list(List) -> ["[", lists:join(",", [json(Term) || Term <- List]), "]"];
json(Tuple) when is_tuple(Tuple) -> json(tuple_to_list(Tuple));
json(Binary) when is_binary(Binary) -> ["\"", escape(Binary), "\""];
json(true) -> "true";
json(false) -> "false";
json(Atom) when is_atom(Atom) -> ["\"", atom_to_binary(Atom), "\""];
json(Integer) when is_integer(Integer) -> integer_to_binary(Integer);
json(Float) when is_float(Float) -> io_lib:format("~w", [Float]).

escape(Binary) ->
    case binary:match(Binary, [<<"\"">>, <<"\\">>]) of
        nomatch -> Binary;
        _ -> binary:replace(binary:replace(Binary, <<"\\">>, <<"\\\\">>, [global]), <<"\"">>, <<"\\\"">>, [global])
    end.

%% 320 bytes of what a service keeps of a user.
record() ->
    #{
        id => 4242424242, name => <<"Juliet Capulet">>, email => <<"juliet.capulet@example.org">>, active => true,
        roles => [admin, writer], score => 97.25, tz => <<"CET1">>, created => {{2026, 11, 29}, {12, 30, 15}},
        address => #{street => <<"Via Cappello 23">>, city => <<"Verona">>, zip => <<"37121">>},
        tags => [<<"balcony">>, <<"nightingale">>, <<"lark">>]
    }.

%% Evaluates what tests ask for: a request is text of an expression, the answer its value; 4 bytes of length before each.
-module(files).
-export([main/1, key/1, value/2, texts/1, dets/2, mnesia/2, writer/3]).

main(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, 4}, {active, false}, {nodelay, true}]),
    loop(Socket).

loop(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Request} ->
            Answer = try evaluate(unicode:characters_to_list(Request)) catch C:E:S -> {failed, C, E, S} end,
            ok = gen_tcp:send(Socket, term_to_binary(Answer)),
            loop(Socket);
        {error, closed} ->
            halt(0)
    end.

evaluate(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Expressions, []),
    Value.

%% Keys of every kind that has a syntax.
key(N) ->
    case N rem 12 of
        0 -> N;
        1 -> -N * 1000003;
        2 -> list_to_atom("k" ++ integer_to_list(N));
        3 -> integer_to_binary(N);
        4 -> {user, N, <<"example.org">>};
        5 -> "text" ++ integer_to_list(N);
        6 -> N * 1.5;
        7 -> [N, a, [N]];
        8 -> N * (1 bsl 70);
        9 -> #{N => v, b => [N]};
        10 -> <<N:37>>;
        11 -> {'Ärger', [], {}, N, [N | x]}
    end.

value(N, Round) ->
    {N, Round, binary:copy(<<N:32>>, (N * 7 + Round * 13) rem 60)}.

%% Keys as text.
texts(Ns) ->
    [unicode:characters_to_binary(io_lib:format("~tw", [key(N)])) || N <- Ns].

%% What DETS has under keys.
dets(Tab, Ns) ->
    [[term_to_binary(O) || O <- dets:lookup(Tab, key(N))] || N <- Ns].

%% What Mnesia has under keys.
mnesia(Tab, Ns) ->
    [[term_to_binary(O) || O <- mnesia:dirty_read(Tab, key(N))] || N <- Ns].

%% Writes for ever: those keys again and again, and others that are new.
writer(Write, Ns, Round) ->
    lists:foreach(fun(N) -> Write(N, Round) end, Ns),
    [Write(100000 + Round * 1000 + N, Round) || N <- lists:seq(1, 100)],
    writer(Write, Ns, Round + 1).

%% Answers requests of tests and benchmarks: 4 bytes of length before each, both ways.
-module(oracle).
-export([main/1]).

main(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, 4}, {active, false}, {nodelay, true}]),
    rand:seed(exsss, {1, 2, 3}),
    loop(Socket).

loop(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Request} ->
            ok = gen_tcp:send(Socket, answer(Request)),
            loop(Socket);
        {error, closed} ->
            halt(0)
    end.

%% A seed for what is generated.
answer(<<"seed", Seed:64>>) ->
    rand:seed(exsss, {Seed, Seed bsr 7, 42}),
    <<>>;
%% How many bytes of it are a term, and that term written in each way.
answer(<<"read", Bytes/binary>>) ->
    try binary_to_term(Bytes, [used]) of
        {Term, Used} -> parts([<<Used:32>> | written(Term)])
    catch
        error:badarg -> <<>>
    end;
%% Its hash of 27 bits.
answer(<<"phash2", Bytes/binary>>) ->
    try <<(erlang:phash2(binary_to_term(Bytes))):32>> catch error:badarg -> <<>> end;
%% A term as text.
answer(<<"text", Bytes/binary>>) ->
    Term = binary_to_term(Bytes),
    parts([unicode:characters_to_binary(io_lib:format(F, [Term])) || F <- ["~w", "~tw", "~0p", "~0tp", "~p", "~tp"]]);
%% A term of those that are broken over lines, its bytes and its text.
answer(<<"lines">>) ->
    Term = lines(rand:uniform(7)),
    parts([term_to_binary(Term) | [unicode:characters_to_binary(io_lib:format(F, [Term])) || F <- ["~p", "~tp"]]]);
%% Text as `file:consult` reads it.
answer(<<"scan", Text/binary>>) ->
    try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text) ++ "\n."),
        {ok, Term} = erl_parse:parse_term(Tokens),
        parts([term_to_binary(Term, [deterministic, {minor_version, 2}])])
    catch
        _:_ -> <<>>
    end;
%% A term of its own choice, written in each way.
answer(<<"make">>) ->
    Term = make(5),
    parts([<<0:32>> | written(Term)]);
%% Nanoseconds that reading and writing a term take, the best of some rounds.
answer(<<"time", Rounds:32, Times:32, Bytes/binary>>) ->
    Term = binary_to_term(Bytes),
    Read = best(Rounds, fun() -> read(Times, Bytes) end),
    Write = best(Rounds, fun() -> write(Times, Term, 0) end),
    <<(Read div Times):64, (Write div Times):64>>.

%% Minor versions 0, 1 and 2, each with its maps in order, then without; then compressed at level 1, 6 and 9.
written(Term) ->
    [term_to_binary(Term, [deterministic, {minor_version, M}]) || M <- [0, 1, 2]] ++
        [term_to_binary(Term, [{minor_version, M}]) || M <- [0, 1, 2]] ++
        [term_to_binary(Term, [deterministic, {minor_version, 2}, {compressed, L}]) || L <- [1, 6, 9]].

parts(Parts) ->
    << <<(byte_size(Part)):32, Part/binary>> || Part <- Parts >>.

best(Rounds, Run) ->
    lists:min([element(1, timed(Run)) || _ <- lists:seq(1, Rounds)]).

timed(Run) ->
    Self = self(),
    %% In a process of its own, whose heap is as that of a request.
    Pid = spawn_link(fun() ->
        Began = erlang:monotonic_time(nanosecond),
        Run(),
        Self ! {self(), erlang:monotonic_time(nanosecond) - Began}
    end),
    receive {Pid, Took} -> {Took, Pid} end.

read(0, _) -> ok;
read(Times, Bytes) -> _ = binary_to_term(Bytes), read(Times - 1, Bytes).

%% With its length taken, as the compiler drops what nobody looks at.
write(0, _, Bytes) -> Bytes;
write(Times, Term, Bytes) -> write(Times - 1, Term, Bytes + byte_size(term_to_binary(Term))).

make(0) -> leaf(rand:uniform(16));
make(Depth) ->
    case rand:uniform(9) of
        1 -> list_to_tuple(several(Depth));
        2 -> several(Depth);
        3 -> several(Depth) ++ make(Depth - 1);
        4 -> maps:from_list([{make(Depth - 1), make(Depth - 1)} || _ <- lists:seq(1, rand:uniform(6))]);
        5 -> maps:from_list([{leaf(rand:uniform(9)), I} || I <- lists:seq(1, rand:uniform(60))]);
        6 -> X = make(Depth - 1), fun() -> X end;
        7 -> {leaf(rand:uniform(16)), make(Depth - 1)};
        _ -> leaf(rand:uniform(16))
    end.

%% Tags, maps, improper lists, binaries: with what else a line has they are about as long as it.
lines(0) -> short(rand:uniform(12));
lines(Depth) ->
    case rand:uniform(12) of
        1 -> list_to_tuple([tag() | some(Depth)]);
        2 -> list_to_tuple([tag() | some(Depth)]);
        3 -> list_to_tuple(some(Depth));
        4 -> some(Depth);
        5 -> some(Depth);
        6 -> [lines(Depth - 1) | some(Depth)] ++ lines(Depth - 1);
        7 -> maps:from_list([{lines(Depth - 1), lines(Depth - 1)} || _ <- lists:seq(1, rand:uniform(4))]);
        8 -> maps:from_list([{tag(), lines(Depth - 1)} || _ <- lists:seq(1, rand:uniform(6))]);
        9 -> maps:from_list([{short(rand:uniform(12)), I} || I <- lists:seq(1, rand:uniform(20))]);
        10 -> [lines(Depth - 1)];
        11 -> [short(1) || _ <- lists:seq(1, rand:uniform(40))];
        12 -> short(rand:uniform(12))
    end.

some(Depth) -> [lines(Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)].

tag() -> lists:nth(rand:uniform(7), [a, ok, error, user, configuration, 'An Atom in Quotes', a_rather_long_name_of_a_record]).

short(1) -> rand:uniform(10000) - 100;
short(2) -> rand:uniform(1 bsl 64);
short(3) -> tag();
short(4) -> rand:bytes(rand:uniform(8));
short(5) -> rand:bytes(rand:uniform(60));
short(6) -> <<(rand:bytes(rand:uniform(40) - 1))/binary, (rand:uniform(3)):(rand:uniform(7))>>;
short(7) -> rand:uniform(200) / 8;
short(8) -> lists:duplicate(rand:uniform(30), $x);
short(9) -> list_to_binary(lists:duplicate(rand:uniform(90), $y));
short(10) -> [rand:uniform(255) || _ <- lists:seq(1, rand:uniform(50))];
short(11) -> lists:nth(rand:uniform(6), [{}, #{}, [], <<>>, {a}, {1}]);
short(12) -> lists:nth(rand:uniform(4), [<<"für"/utf8>>, "für", [20320, 22909], <<"你好"/utf8>>]).

several(Depth) -> [make(Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)].

leaf(1) -> rand:uniform(300) - 20;
leaf(2) -> (rand:uniform(1 bsl 40) - (1 bsl 39));
leaf(3) -> sign() * rand:uniform(1 bsl rand:uniform(64));
leaf(4) -> sign() * rand:uniform(1 bsl (8 * rand:uniform(300)));
leaf(5) -> lists:nth(rand:uniform(8), [ok, undefined, true, 'Hello World', '', nil, 'fünf', '你好']);
leaf(6) -> list_to_atom([lists:nth(rand:uniform(6), [$a, $Z, 228, 20320, $', 127]) || _ <- lists:seq(1, rand:uniform(255))]);
leaf(7) -> rand:bytes(rand:uniform(40));
leaf(8) -> [rand:uniform(255) || _ <- lists:seq(1, rand:uniform(20))];
leaf(9) -> float();
leaf(10) -> <<(rand:bytes(rand:uniform(10)))/binary, (rand:uniform(100)):(rand:uniform(7))>>;
leaf(11) -> [];
leaf(12) -> self();
leaf(13) -> make_ref();
leaf(14) -> lists:last(erlang:ports());
leaf(15) -> fun lists:map/2;
leaf(16) -> lists:nth(rand:uniform(4), [{}, #{}, <<>>, "printable text"]).

sign() -> 1 - 2 * (rand:uniform(2) - 1).

float() ->
    case rand:uniform(4) of
        1 -> rand:uniform() * 1000;
        2 -> float(rand:uniform(1000000));
        3 -> sign() * math:pow(10, rand:uniform(600) - 300);
        4 ->
            <<Bits:64>> = rand:bytes(8),
            case <<Bits:64>> of
                <<F/float>> -> F;
                _ -> 0.1
            end
    end.

#!/usr/bin/env escript
%% Writes what the examples read: a user as a term in a file, and a stream of events, each with 4 bytes of length before it.

main([Folder, Events]) ->
    write_term(filename:join([Folder, "users", "42"]), #{
        name => <<"Juliet"/utf8>>,
        age => 13,
        emails => [<<"juliet@capulet.example">>, <<"朱丽叶@capulet.example"/utf8>>]
    }),
    ok = file:write_file(Events, [prefixed(#{at => At, what => What}) ||
        {At, What} <- [{1, <<"login">>}, {2, <<"message">>}, {3, <<"logout">>}]]).

%% Beside, then renamed: who reads it meanwhile gets the old term or the new one, never a half.
write_term(Path, Term) ->
    Next = filename:join(filename:dirname(Path), "." ++ filename:basename(Path)),
    ok = filelib:ensure_dir(Next),
    ok = file:write_file(Next, term_to_binary(Term)),
    ok = file:rename(Next, Path).

prefixed(Term) ->
    Bytes = term_to_binary(Term),
    <<(byte_size(Bytes)):32, Bytes/binary>>.

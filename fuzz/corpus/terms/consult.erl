{host, "localhost"}.
% a comment
[#{a => <<"b",1:3>>, 'C d' => 16#ff}, $a, -1.5e3, fun m:f/1 | tail].

"""
The differential oracle: one random plan, played on the linked engine and in the express lane, must leave one trace.

Law 35 says that engines cannot be told apart. A *plan* (`plans`) is a pipeline, callers, what their callees do and what
is done to them meanwhile, all drawn from one seed. It is *played* (`playing`) in virtual time on a loop that
reorders what
is ready by that seed (`loops`), and everything anybody could see goes into one list in the order in which it happened.
Two engines have played it alike if the two lists are equal (`comparing`).

    python -m tests.instruments.differential --seeds 0:20000
    python -m tests.instruments.differential --seeds 17 --text
"""

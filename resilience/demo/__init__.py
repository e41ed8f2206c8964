"""
The demo: one real service that goes through a fault plan, and two groups of clients that live through it.

`python -m resilience demo` starts an HTTP service in a process of its own and calls it over real sockets, once bare and
once through a pipeline. `plan` says what goes wrong and when, `server` does it, `clients` call, `view` shows it live,
`report` reckons from what the server and the clients wrote down, `run` holds it all together and `command` is the
command line. Nothing here is imported by `import resilience`.
"""

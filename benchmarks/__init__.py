"""
What a guard costs, alone and under load, and what it does there: ``python -m benchmarks``.

Each part is a module with a function ``run``; `benchmarks.rivals` holds the libraries it is compared with.
"""

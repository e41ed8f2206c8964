"""
What a guard does for its callers and its server when things go wrong: ``python -m benchmarks.outcomes``.

Why outcomes: a guard is bought for the bad day, and nanoseconds say nothing about that day. Fault plans are played in
virtual time by the real code of each contender against one model of a server, so a simulated minute takes a second and
the same seed gives the same table.
"""

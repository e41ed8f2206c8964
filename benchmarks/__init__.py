"""
What a guard costs, in multiples of the cheapest generic wrapper Python allows: ``python -m benchmarks``.
"""

"""
The terminal's view of a running service: ``python -m resilience top URL``.
"""

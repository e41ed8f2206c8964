"""
Ten kinds of call site, as they are written on the platform.

Each gives the names of what it called, in order, so that a test can tell what an open circuit kept from being called.
"""

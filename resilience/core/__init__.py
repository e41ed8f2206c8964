"""The state machines: pure and synchronous. No await, no I/O, no clock; time comes in as an argument."""

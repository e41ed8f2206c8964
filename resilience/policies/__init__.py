"""One policy, one file; strangers to one another."""

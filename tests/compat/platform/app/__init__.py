"""A platform in small, with its old module paths: what moves to this library without a change at its call sites."""

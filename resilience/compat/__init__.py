"""Other libraries' names on this engine, for code that is on its way here. Nothing in the house imports them."""

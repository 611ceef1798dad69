"""How a command or a stage begins and ends, and what it tells whoever started it."""

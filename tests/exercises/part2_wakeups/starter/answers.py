"""How often part 2 wakes up: your predictions, each before you run anything."""

a = None  # wake-ups
b = None  # wake-ups
c = None  # wake-ups

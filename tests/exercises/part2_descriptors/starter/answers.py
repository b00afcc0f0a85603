"""How many descriptors part 2 has open: your predictions, each before you run anything."""

a = None  # descriptors
b = None  # descriptors
c = None  # descriptors

"""What a config computes: your predictions, each before you run anything."""

a = None  # a text
b = None  # a text
c = None  # a text
d = None  # a text

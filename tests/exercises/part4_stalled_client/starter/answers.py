"""What a stalled client costs: your predictions, each before you run anything."""

a = None  # MB
b = None  # MB
c = None  # percent
d = None  # "yes" or "no"

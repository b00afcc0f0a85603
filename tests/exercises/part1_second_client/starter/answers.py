"""What the second client sees: your predictions, each before you run anything."""

a = None  # "yes" or "no"
b = None  # seconds
c = None  # clients

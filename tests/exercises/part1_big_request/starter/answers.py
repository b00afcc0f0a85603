"""Which bytes of a request arrive: your predictions, each before you run anything."""

a = None  # bytes
b = None  # bytes
c = None  # "end of file" or "reset"

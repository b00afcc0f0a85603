"""Who gets how many: your predictions, each before you run anything."""

a = None  # six letters
b = None  # four letters
c = None  # clients
d = None  # "yes" or "no"

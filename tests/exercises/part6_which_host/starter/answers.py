"""Who serves which name: your predictions, each before you run anything."""

a = None  # six letters
b = None  # a letter, or a status
c = None  # a letter, or a status
d = None  # four letters

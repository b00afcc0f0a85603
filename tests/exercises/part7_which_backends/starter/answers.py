"""What redis says, and what holds: your predictions, each before you run anything."""

a = None  # six letters
b = None  # five letters
c = None  # three words, each a letter or a status
d = None  # three words, each a letter or a status

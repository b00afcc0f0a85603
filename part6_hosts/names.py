"""Host names, as clients write them and as we compare them: in lower case, without a port, without the last dot.

Only texts here: no look-ups, no sockets.

RFC 9110 section 7.2 and RFC 3986 section 3.2.2 say what a Host header may hold; nginx treats names in the same way.
"""

import functools
import ipaddress
import re

LONGEST_NAME = 253  # characters (RFC 1035, section 2.3.4)
NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")  # labels with a dot between them; IPv4 addresses, too
PORT = re.compile(r"0*([0-9]{0,5})")  # "*DIGIT", says RFC 3986: it may be empty, and begin with zeros


def dns_name(text: str) -> str | None:
    """Return a name in lower case and without its one trailing dot, or None when it isn't one.

    There are "_" in names, whatever the standard says. Nothing else is let in: names end up in logs and in look-ups.
    """
    name = text.lower().removesuffix(".")
    return name if NAME.fullmatch(name) and len(name) <= LONGEST_NAME and text.isascii() else None


@functools.lru_cache(maxsize=256)  # For speed: see request_head.py
def host_name(text: str) -> str | None:
    """Return the name in a Host header, or None when it isn't a name (or address) with or without a port.

    "WWW.Example.com.:8080" is www.example.com, "[::1]:80" is [::1]. An empty text is not a name.
    """
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):  # the colons belong to an IPv6 address
        name = text
    elif not (found := PORT.fullmatch(port)) or int(found[1] or 0) > 65535:
        return None
    if name.startswith("["):
        return ipv6_name(name)
    return dns_name(name)


def ipv6_name(text: str) -> str | None:
    """Return an IPv6 address in brackets in its shortest form, or None when it isn't one."""
    try:
        address = ipaddress.IPv6Address(text[1:-1] if text.endswith("]") and "%" not in text else "")
    except ValueError:
        return None
    return f"[{address}]"

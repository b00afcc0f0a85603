"""The header of the PROXY protocol: a proxy tells the backend who the client is, before the client's first byte.

Its bytes are only made here: looking_pair.py and health.py send them.

haproxy's doc/proxy-protocol.txt defines it; version 1 (section 2.1) is a line of text, version 2 (section 2.2) binary.
The backend must expect it. Send it in one piece with what follows: nginx resets a connection where it comes in bits.
"""

import ipaddress

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
VERSION_AND_LOCAL, VERSION_AND_PROXY = 0x20, 0x21  # of version 2: our own connection, or a client's
TCP4, TCP6 = 0x11, 0x21


def proxy_header(version: str, client: tuple, server: tuple) -> bytes:
    """Return the header, "v1" or "v2", for a client's connection.

    Both ends are given as the socket module gives them: an address, a port, and for IPv6 two more. ::ffff:192.0.2.1
    is an IPv4 address: it only came through an IPv6 socket. If just one end has one, both are written as IPv6.
    """
    addresses = [ipaddress.ip_address(end[0].partition("%")[0]) for end in (client, server)]
    plain = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    is_ipv4 = all(address.version == 4 for address in plain)
    addresses = plain if is_ipv4 else [as_ipv6(address) for address in plain]
    ports = client[1], server[1]
    if version == "v1":
        return "PROXY {} {} {} {} {}\r\n".format("TCP4" if is_ipv4 else "TCP6", *addresses, *ports).encode()
    fields = b"".join(address.packed for address in addresses) + b"".join(port.to_bytes(2, "big") for port in ports)
    return v2_header(VERSION_AND_PROXY, TCP4 if is_ipv4 else TCP6, fields)


def as_ipv6(address):
    """Return an IPv6 address, for an IPv4 one the mapped address."""
    return address if address.version == 6 else ipaddress.IPv6Address(f"::ffff:{address}")


def own_check_header(version: str) -> bytes:
    """Return the header for the proxy's own connection, such as a health check's, which has no client."""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else v2_header(VERSION_AND_LOCAL, 0, b"")


def v2_header(command, family, fields):
    """Return a header of version 2."""
    return SIGNATURE + bytes([command, family]) + len(fields).to_bytes(2, "big") + fields

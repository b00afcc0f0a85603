"""Reads the header of the PROXY protocol, for backends that want to know who the client is."""

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # what version 2 begins with
ADDRESS_LENGTHS = {0x11: 4, 0x21: 16}  # family and protocol -> bytes: TCP over IPv4, over IPv6


def read_proxy_header(data: bytes) -> tuple | None:
    """Return (client, server, rest): two pairs (address, port), and what comes after the header.

    None: the header is not all there yet. For the proxy's own connections, which have no client, the two are None.
    Raises AssertionError for anything that haproxy's doc/proxy-protocol.txt does not allow.
    """
    if data.startswith(SIGNATURE[: len(data)]) and data[:1] != b"P":
        return read_version_2(data)
    line, end, rest = data.partition(b"\r\n")
    if not end:
        assert len(data) < 107, f"a PROXY line has at most 107 bytes, and this begins one without an end: {data[:120]}"
        return None
    words = line.decode("ascii", "replace").split(" ")
    if words == ["PROXY", "UNKNOWN"]:
        return None, None, rest
    assert len(words) == 6 and words[:2] in (["PROXY", "TCP4"], ["PROXY", "TCP6"]), f"not a PROXY line: {line!r}"
    parse = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    ends = [(str(parse(address)), int(port)) for address, port in zip(words[2:4], words[4:], strict=True)]
    assert words[4:] == [str(port) for _, port in ends], f"a port in {line!r} is not written as a plain number"
    return *ends, rest


def read_version_2(data):
    """Do the same for a header of version 2."""
    if len(data) < 16 or len(data) < 16 + int.from_bytes(data[14:16], "big"):
        return None
    command, family = data[12], data[13]
    fields, rest = data[16:][: int.from_bytes(data[14:16], "big")], data[16 + int.from_bytes(data[14:16], "big") :]
    assert command in (0x20, 0x21), f"byte 13 is {command:#x}: neither LOCAL nor PROXY of version 2"
    if command == 0x20:
        return None, None, rest
    assert family in ADDRESS_LENGTHS, f"byte 14 is {family:#x}: neither TCP over IPv4 nor over IPv6"
    size = ADDRESS_LENGTHS[family]
    assert len(fields) >= 2 * size + 4, f"two addresses and two ports don't fit into {len(fields)} bytes"
    addresses = [str(ipaddress.ip_address(fields[start : start + size])) for start in (0, size)]
    ports = struct.unpack("!HH", fields[2 * size : 2 * size + 4])
    return *zip(addresses, ports, strict=True), rest

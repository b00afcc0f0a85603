"""The same job with asyncio streams: what most people would write first, to be compared with.

    python asyncio_proxy.py PORT BACKEND_ADDR BACKEND_PORT [--uvloop]

It has what part 4 has where asyncio makes it easy: back pressure (drain), half-closes, many clients at once.
"""

import asyncio
import sys


async def pass_on(reader, writer):
    """Copy one direction to its end, and pass the end on."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def serve(backend, client_reader, client_writer):
    """Serve one client."""
    try:
        backend_reader, backend_writer = await asyncio.open_connection(*backend)
    except OSError:
        client_writer.transport.abort()
        return
    await asyncio.gather(pass_on(client_reader, backend_writer), pass_on(backend_reader, client_writer))
    backend_writer.close()
    client_writer.close()


async def main(port, *backend):
    """Listen."""
    server = await asyncio.start_server(lambda *pair: serve(backend, *pair), port=port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[4:] == ["--uvloop"]:
        import uvloop

        uvloop.run(main(*sys.argv[1:4]))
    else:
        asyncio.run(main(*sys.argv[1:4]))

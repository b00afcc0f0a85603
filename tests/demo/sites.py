"""The plain sites of `make hosts`: each says who was asked for, which backend answers, and who it thinks is asking.

A browser gets a page, from pages/; anything else, such as curl, the same facts in a few lines of text.
"""

import pathlib

import tornado.httpserver
import tornado.template
import tornado.web

PAGES = pathlib.Path(__file__).resolve().parent / "pages"


class Visit:
    """What a backend knows about one request; the pages and the texts are made of it."""

    def __init__(self, backend, address, host, client, told_by, chosen_by, proxy):
        """Keep what was found out."""
        self.backend = backend  # the name of the backend that answers
        self.address = address  # its own, "127.0.0.1:41234"
        self.host = host  # the name that was asked for, without a port
        self.client = client  # the client's address, or None if the proxy did not say
        self.told_by = told_by  # what has said it: "X-Forwarded-For" or "the PROXY protocol"
        self.chosen_by = chosen_by  # where the proxy has read the name: "the Host header" or "the ClientHello"
        self.proxy = proxy  # the address that has connected to the backend

    def text(self):
        """Return the facts for a terminal."""
        return (
            f"You asked for {self.host}.\n"
            f"The client is at {self.client or 'an unknown address'}: so says {self.told_by}.\n"
            f"It came through rsp, which chose by {self.chosen_by} and connected from {self.proxy}.\n"
            f"The backend {self.backend}, at {self.address}, answers.\n"
        )


def host_name(host):
    """Return the name in a Host header, without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host


def wants_page(headers):
    """Return True if a client asks for a page rather than a text, as browsers do."""
    return "text/html" in headers.get("Accept", "")


def render(page, **facts):
    """Return one of the pages, filled in."""
    return tornado.template.Loader(str(PAGES)).load(page).generate(**facts)


class SiteServer(tornado.httpserver.HTTPServer):
    """Serves a site, and keeps the head of each connection's last request as it came, byte for byte."""

    def handle_stream(self, stream, address):
        """Keep what the stream reads as a head: Tornado itself changes the spelling of the names in it."""
        read = stream.read_until_regex

        async def read_and_keep(*arguments, **options):
            """Read a head, as the server asks for it."""
            stream.head = await read(*arguments, **options)
            return stream.head

        stream.read_until_regex = read_and_keep
        super().handle_stream(stream, address)


def headers_in(head):
    """Return the names and values in the head of a request, in their own spelling."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    return [(name, value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]


class PageHandler(tornado.web.RequestHandler):
    """Answers with the one page of a site."""

    def initialize(self, backend, page, places):
        """Set the backend's name, its page, and the addresses of all the sites (see many_sites.py)."""
        self.backend = backend
        self.page = page
        self.places = places

    def visit(self):
        """Return what is known about this request."""
        connection = self.request.connection.stream.socket
        return Visit(
            backend=self.backend,
            address="{}:{}".format(*connection.getsockname()),
            host=host_name(self.request.host),
            client=self.request.headers.get("X-Forwarded-For"),
            told_by="X-Forwarded-For",
            chosen_by="the Host header",
            proxy="{}:{}".format(*connection.getpeername()),
        )

    def get(self):
        """Say it as a page or as a text."""
        visit = self.visit()
        self.set_header("Cache-Control", "no-store")  # every reload is to reach the proxy
        if wants_page(self.request.headers):
            request = f"{self.request.method} {self.request.uri} {self.request.version}"
            headers = headers_in(self.request.connection.stream.head)
            self.finish(render(self.page, visit=visit, request=request, headers=headers, places=self.places))
        else:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(visit.text())

    head = get


def application(backend, page, places, handlers=()):
    """Return a site with one page, and with whatever other handlers it needs."""
    settings = {"backend": backend, "page": page, "places": places}
    return tornado.web.Application([(r"/", PageHandler, settings), *handlers], log_function=lambda handler: None)

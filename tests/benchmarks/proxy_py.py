"""The plugin that makes proxy.py, the forward proxy in Python, a reverse proxy for one site: see contenders.py."""

import os

from proxy.http import Url
from proxy.http.server import ReverseProxyBasePlugin

BACKEND = os.environ["RSP_BACKEND"].encode()  # address:port


class OneSite(ReverseProxyBasePlugin):
    """Sends every request to the same backend."""

    def routes(self):
        """Return the patterns of the paths that are passed on: all."""
        return [r"/.*"]

    def handle_route(self, request, pattern):
        """Return what to ask the backend for: the same path."""
        return Url.from_bytes(b"http://" + BACKEND + request.path)

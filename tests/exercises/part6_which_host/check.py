"""Predict which backend gets a client, from the name that it asks for."""

from by_name import ask_for, brief, exchange, start_by_name
from several import backends_called
from support.peers import Client, hello_bytes, request_text

CONFIG = "config.lua"
HOSTS = ["SHOP.example:8080", "www.shop.example.", "de.eu.shop.example", "eu.shop.example", "a.b.eu.shop.example"]
HOSTS += ["myshop.example"]
SERVER_NAMES = ["shop.example", "EU.Shop.Example", "x.eu.shop.example", None]


def letters(answers):
    """Return who has answered, a letter each, and "-" for a client that was refused."""
    words = [brief(answer) for answer in answers]
    return "".join(word if len(word) == 1 else "-" for word in words)


def by_host_header(work):
    """Six requests, each on its own connection, have the Hosts SHOP.example:8080, www.shop.example. (with the
    dot), de.eu.shop.example, eu.shop.example, a.b.eu.shop.example and myshop.example. Who serves them? A text like
    "AAB-CC"."""
    answer = work.answer("a")
    with backends_called("ABC") as backends:
        proxy, _ = start_by_name(work, CONFIG, *backends)
        really = letters(ask_for(proxy.port, request_text(host)) for host in HOSTS)
    work.sent("six requests, each on its own connection")
    work.came_back(f"answers of {really}")
    work.compare(answer, really, "which names are the same, and which of the three comes first?")


def another_name(work):
    """Three requests come on one connection, one after another, for shop.example, for Shop.Example:80, and for
    www.shop.example. What does the third get? A letter, or the status of the refusal."""
    answer = str(work.answer("b")).partition(" ")[0]
    with backends_called("ABC") as backends:
        proxy, _ = start_by_name(work, CONFIG, *backends)
        with Client(proxy.port) as client:
            names = ["shop.example", "Shop.Example:80", "www.shop.example"]
            *_, really = [brief(exchange(client, request_text(name))) for name in names]
    work.sent("three requests on one connection, each when the one before had its answer")
    work.came_back(f"for the third: {really}")
    work.compare(answer, really, "where does this connection lead, and whose answers may come on it?")


def two_names(work):
    """A request begins with GET http://www.shop.example/ HTTP/1.1, and then says Host: shop.example. What does it get?
    A letter, or the status of the refusal."""
    answer = str(work.answer("c")).partition(" ")[0]
    with backends_called("ABC") as backends:
        proxy, _ = start_by_name(work, CONFIG, *backends)
        really = brief(ask_for(proxy.port, request_text("shop.example", "http://www.shop.example/")))
    work.sent("GET http://www.shop.example/ HTTP/1.1, Host: shop.example")
    work.came_back(really)
    work.compare(answer, really, "which of the two names would a backend go by? Do all programs agree?")


def by_server_name(work):
    """Four TLS clients ask for shop.example, for EU.Shop.Example, for x.eu.shop.example, and for no name at all, as
    when a browser is given an address. Who gets them? A text like "AB-C"."""
    answer = work.answer("d")
    with backends_called("ABC") as backends:
        _, tls_port = start_by_name(work, CONFIG, *backends)
        really = letters(ask_for(tls_port, hello_bytes(name)) for name in SERVER_NAMES)
    work.sent("the first messages of four TLS clients")
    work.came_back(f"answers of {really}")
    work.compare(answer, really, "the names are looked up as those of requests; is there a default?")


TASKS = [by_host_header, another_name, two_names, by_server_name]

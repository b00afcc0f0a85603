"""Draws the figure that each part of the course begins with: where can a byte be?

    python tests/figures.py

It writes where_can_a_byte_be.svg in the directory of every part, and prints the Markdown that shows it. A request's way
is drawn from left to right, and the answer's way from right to left below it; each part adds what it adds.
"""

import textwrap

from support.parts import PARTS, ROOT

NAME = "where_can_a_byte_be.svg"
TITLE = "Where can a byte be?"
WIDTH = 800
REQUEST, ANSWER, LANE = 94, 178, 70  # the top of each lane, and its height
MIDDLE = LANE / 2
BELOW = 262  # where a part's own things begin
CELL, GAP = 11, 2  # of a queue's cells
# Left edges and widths of the columns.
CLIENT, CLIENT_KERNEL, KERNEL_IN, RSP, KERNEL_OUT, BACKEND_KERNEL, BACKEND = (
    (10, 62), (84, 84), (190, 84), (284, 232), (526, 84), (630, 84), (724, 66),
)  # fmt: skip
STYLE = """
  svg { --paper: #f6f8fa; --ink: #1f2328; --line: #57606a; --kernel: #dfe7f0; --program: #ffffff; --faint: #afb8c1;
        --request: #0969b8; --answer: #b35900; --red: #c4122f; --redpaper: #ffe9ea; --look: #e8def8; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #171c24; --ink: #e6edf3; --line: #9aa5b1; --kernel: #26364a; --program: #0d1117; --faint: #4a5461;
          --request: #58a6ff; --answer: #f0a13c; --red: #ff7b84; --redpaper: #3d1a20; --look: #3a2d55; }
  }
  text { font: 12.5px system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; }
  .head { font-weight: 600; }
  .code { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 12px; }
  .red { fill: var(--red); font-weight: 600; }
  .paper { fill: var(--paper); }
  .kernel { fill: var(--kernel); stroke: var(--line); }
  .program { fill: var(--program); stroke: var(--line); stroke-width: 1.5; }
  .machine { fill: none; stroke: var(--line); stroke-dasharray: 3 3; }
  .look { fill: var(--look); stroke: var(--line); stroke-width: 1.5; }
  .lost { fill: var(--redpaper); stroke: var(--red); stroke-width: 1.5; stroke-dasharray: 4 3; }
  .away { fill: none; stroke: var(--line); stroke-dasharray: 4 3; }
  .empty { fill: none; stroke: var(--faint); }
  .request { fill: var(--request); stroke: var(--request); }
  .answer { fill: var(--answer); stroke: var(--answer); }
  .way { fill: none; stroke: var(--line); stroke-width: 1.5; marker-end: url(#tip); }
  .redway { fill: none; stroke: var(--red); stroke-width: 1.5; stroke-dasharray: 4 3; marker-end: url(#redtip); }
  .tip { fill: var(--line); }
  .redtip { fill: var(--red); }
"""
TIP = (
    '<marker id="{0}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="{0}" d="M0 0 L8 4 L0 8 z"/></marker>'
)


# Pieces


def text(x, y, words, kind="", anchor="middle"):
    """Return a line of text, by default centred at x."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{words}</text>\n'


def lines(x, y, words, kind="", anchor="middle"):
    """Return several lines of text, the first one at y."""
    return "".join(text(x, y + 16 * number, line, kind, anchor) for number, line in enumerate(words))


def note(x, y, *words, kind=""):
    """Return an explanation of several lines that begin at x."""
    return lines(x, y, words, kind, "start")


def box(x, y, width, height, kind, copies=0):
    """Return a box, on top of some copies of it that stick out."""
    drawn = ""
    for offset in range(4 * copies, -4, -4):
        drawn += f'<rect x="{x + offset}" y="{y - offset}" width="{width}" height="{height}" rx="5" class="{kind}"/>\n'
    return drawn


def labelled(x, y, width, height, kind, words, style="", copies=0):
    """Return a box with lines of text in its middle."""
    first = y + height / 2 - 8 * (len(words) - 1) + 4.5
    return box(x, y, width, height, kind, copies) + lines(x + width / 2, first, words, style)


def way(*points, kind="way"):
    """Return an arrow through some points."""
    return f'<path d="M{" L".join(f"{x} {y}" for x, y in points)}" class="{kind}"/>\n'


def along(lane, *gaps, height=MIDDLE, kind="way"):
    """Return arrows across gaps, each from one x to another, from left to right or, for answers, from right to left."""
    ends = [[(start, lane + height), (end, lane + height)] for start, end in gaps]
    return "".join(way(*(pair if lane == REQUEST else reversed(pair)), kind=kind) for pair in ends)


def cells(center, y, full, count, lane):
    """Return a queue's cells, the full ones at the end where bytes leave it."""
    drawn = ""
    for number in range(count):
        is_full = number >= count - full if lane == REQUEST else number < full
        kind = ("request" if lane == REQUEST else "answer") if is_full else "empty"
        x = center - count * (CELL + GAP) / 2 + GAP / 2 + number * (CELL + GAP)
        drawn += f'<rect x="{x}" y="{y}" width="{CELL}" height="16" rx="2" class="{kind}"/>\n'
    return drawn


def kernel(column, lane, words, full):
    """Return one direction's queue in a kernel."""
    x, width = column
    center = x + width / 2
    return (
        box(x, lane, width, LANE, "kernel") + text(center, lane + 20, words) + cells(center, lane + 34, full, 5, lane)
    )


def memory(x, lane, width, name, full, count, limit, kind="program", copies=0):
    """Return a piece of the proxy's own memory: what it is called, the bytes in it, and its limit."""
    center = x + width / 2
    style = "code" if "_" in name else ""
    drawn = box(x, lane + 2, width, LANE - 4, kind, copies) + text(center, lane + 19, name, style)
    return drawn + cells(center, lane + 27, full, count, lane) + text(center, lane + 60, limit)


# What all parts share


def surroundings(height, queues, clients=0, backend=("backend",)):
    """Return client, kernels and backend, with their queues, and the outline of the proxy's machine."""
    center = RSP[0] + RSP[1] / 2
    drawn = box(180, 36, 440, height - 46, "machine") + text(center, 54, "the proxy's machine")
    drawn += text(center, 82, "rsp, a program", "head")
    for column, words in ((CLIENT, ["client"]), (BACKEND, backend)):
        copies = clients if column == CLIENT else 0
        drawn += labelled(column[0], REQUEST, column[1], ANSWER + LANE - REQUEST, "program", words, "head", copies)
    columns = {CLIENT_KERNEL: "client's", KERNEL_IN: "proxy's", KERNEL_OUT: "proxy's", BACKEND_KERNEL: "backend's"}
    for number, (column, whose) in enumerate(columns.items()):
        drawn += lines(column[0] + column[1] / 2, 66, [whose, "kernel"], "head")
        for lane in (REQUEST, ANSWER):
            sends = (number % 2 == 0) == (lane == REQUEST)
            drawn += kernel(column, lane, "to send" if sends else "received", queues[lane][number])
    for lane in (REQUEST, ANSWER):
        drawn += along(lane, (72, 84), (168, 190), (610, 630), (714, 724))
    return drawn


def frame(part, height, drawn):
    """Return a whole SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-labelledby="title desc">\n<title id="title">{TITLE} Part {part}</title>\n'
        f'<desc id="desc">{DESCRIPTIONS[part]}</desc>\n<style>{STYLE}</style>\n'
        f"<defs>{TIP.format('tip')}{TIP.format('redtip')}</defs>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n'
        f"{note(14, 25, f'{TITLE} Part {part}', kind='title')}{drawn}</svg>\n"
    )


# The parts


def part_1():
    """One read of a request, one piece of an answer at a time; the other clients wait in the backlog."""
    height = 352
    drawn = surroundings(height, {REQUEST: (0, 1, 1, 2), ANSWER: (2, 1, 2, 3)})
    for lane, words in ((REQUEST, "one recv, one sendall"), (ANSWER, "recv, sendall, in turn")):
        drawn += memory(315, lane, 170, words, 3, 6, "≤ 4096 bytes") + along(lane, (274, 315), (485, 526))
    drawn += labelled(190, BELOW, 84, 44, "kernel", ["backlog:", "2 clients"])
    drawn += note(286, BELOW + 18, "connected by the kernel, not accepted yet;", "what they send waits there, unread")
    return frame(
        1, height, drawn + note(190, BELOW + 68, "One client at a time: while a call blocks, nothing else moves.")
    )


def lossy(height):
    """Return what parts 2 and 3 have: many pairs, one read in flight each way, and a place where bytes are lost."""
    drawn = surroundings(height, {REQUEST: (1, 1, 5, 3), ANSWER: (5, 5, 1, 1)}, 2)
    for lane, x, lost in ((REQUEST, 300, 416), (ANSWER, 398, 290)):
        drawn += memory(x, lane, 96, "one recv", 4, 6, "≤ 4096 bytes", copies=2)
        drawn += along(lane, (274, x), (x + 105, 526), height=20)
        drawn += labelled(lost, lane + 36, 94, 26, "lost", ["✗ lost"], "red")
        gap = (x + 96, lost) if lane == REQUEST else (lost + 94, x)
        drawn += along(lane, gap, height=49, kind="redway")
    return drawn


def part_2():
    """Many pairs, and what send does not take is lost."""
    height = 352
    drawn = lossy(height) + note(
        190, BELOW + 16, "✗ No room in the queue to send? Then send takes less, and", kind="red"
    )
    drawn += note(190, BELOW + 32, "rsp throws the rest away.", kind="red")
    drawn += note(
        190,
        BELOW + 56,
        "Each client is a pair: two sockets, two handlers. epoll names a",
        "socket that is ready; its handler does one recv and one send.",
    )
    return frame(2, height, drawn)


def part_3():
    """The same, and a config that no byte passes through."""
    height = 346
    drawn = lossy(height) + labelled(190, BELOW + 6, 96, 40, "look", ["config.lua"], "code")
    drawn += note(
        298,
        BELOW + 22,
        "runs once, before the first byte comes. It says",
        "where to listen, and where the backend is.",
    )
    drawn += note(190, BELOW + 66, "✗ Bytes are lost where part 2 loses them.", kind="red")
    return frame(3, height, drawn)


def answers():
    """Return the way of an answer from part 4 on: a read, then a write buffer."""
    drawn = labelled(434, ANSWER + 10, 74, LANE - 20, "program", ["read:", "≤ 128 KiB"])
    drawn += memory(292, ANSWER, 124, "write_buffer", 6, 9, "≤ 256 KiB")
    return drawn + along(ANSWER, (274, 292), (416, 434), (508, 526))


def requests():
    """Return the way of a request in parts 4 and 5: a read, then a write buffer."""
    drawn = labelled(292, REQUEST + 10, 74, LANE - 20, "program", ["read:", "≤ 128 KiB"])
    drawn += memory(384, REQUEST, 124, "write_buffer", 3, 9, "≤ 256 KiB")
    return drawn + along(REQUEST, (274, 292), (366, 384), (508, 526))


def part_4():
    """What can't be written now waits, up to a limit; then the other side is not read."""
    height = 362
    drawn = surroundings(height, {REQUEST: (1, 1, 2, 1), ANSWER: (5, 5, 5, 4)}, 2) + requests() + answers()
    drawn += note(
        190,
        BELOW + 16,
        "What send does not take waits in the write_buffer until EPOLLOUT",
        "says that there is room again. No byte is lost.",
    )
    drawn += note(
        190,
        BELOW + 58,
        "❚❚ Full? Then rsp stops reading the other side. Its queues fill,",
        "and the sender has to wait: back-pressure.",
    )
    return frame(4, height, drawn)


def more_backends(*rows):
    """Return further backends, below the one that the lanes lead to."""
    drawn = text(595, BELOW + 30, "or") + way((608, BELOW + 26), (632, BELOW + 26))
    for number, (words, kind) in enumerate(rows):
        drawn += labelled(632, BELOW + 8 + 46 * number, 158, 36, kind, [words])
    return drawn


def part_5():
    """Several backends, and a choice."""
    height = 374
    drawn = surroundings(height, {REQUEST: (1, 1, 2, 1), ANSWER: (2, 1, 1, 2)}, 2, ["backend", "A"]) + answers()
    drawn += labelled(288, REQUEST + 20, 22, 30, "look", ["◇"], "head")
    drawn += labelled(322, REQUEST + 10, 74, LANE - 20, "program", ["read:", "≤ 128 KiB"])
    drawn += memory(408, REQUEST, 104, "write_buffer", 3, 7, "≤ 256 KiB")
    drawn += along(REQUEST, (274, 288), (310, 322), (396, 408), (512, 526))
    drawn += more_backends(("backend B: up", "program"), ("backend C: ✗ left out", "away"))
    drawn += note(
        190,
        BELOW + 20,
        "◇ The choice, before a byte is read: in turn, by weight,",
        "the fewest connections, … or a Lua function.",
    )
    drawn += note(
        190,
        BELOW + 64,
        "CONNECTING: what the client sends waits in the write_buffer.",
        "If the connect fails, the next backend gets all of it.",
    )
    return frame(5, height, drawn)


def looked_at(words, what):
    """Return the way of a request from part 6 on: held while it is looked at, then the choice, then a write buffer."""
    drawn = memory(288, REQUEST, 84, words, 4, 6, what, "look")
    drawn += labelled(384, REQUEST + 20, 22, 30, "look", ["◇"], "head")
    drawn += memory(418, REQUEST, 94, "write_buffer", 1, 6, "≤ 256 KiB")
    return drawn + along(REQUEST, (274, 288), (372, 384), (406, 418), (512, 526))


HOSTS = (("B: *.site2.localhost", "program"), ("C: default", "program"))


def part_6():
    """The head or the hello is held until the choice is made."""
    height = 374
    drawn = surroundings(height, {REQUEST: (1, 2, 1, 1), ANSWER: (2, 1, 1, 2)}, 2, ["backend", "A"])
    drawn += looked_at("◉ look", "head, hello") + answers() + more_backends(*HOSTS)
    drawn += note(
        190,
        BELOW + 20,
        "◉ The head of each request (up to 32 KiB), or the ClientHello",
        "(up to 16 KiB), is held here until it is whole. It names a host.",
    )
    drawn += note(
        190,
        BELOW + 64,
        "◇ Only now is a backend of that host chosen. What is refused",
        "never leaves: the answer is a page such as 404, or an alert.",
    )
    return frame(6, height, drawn)


def part_7():
    """redis is asked for a name, and the client waits."""
    height = 374
    drawn = surroundings(height, {REQUEST: (1, 2, 1, 1), ANSWER: (2, 1, 1, 2)}, 2, ["backend", "A"])
    drawn += looked_at("◉ WAITING", "for a name") + answers() + more_backends(*HOSTS)
    drawn += labelled(12, BELOW + 8, 146, 44, "program", ["redis"], "head")
    drawn += way((190, BELOW + 22), (158, BELOW + 22)) + way((158, BELOW + 40), (190, BELOW + 40))
    drawn += note(12, BELOW + 72, "Any number of proxies", "may ask it.")
    drawn += note(
        198, BELOW + 26, "question: which backends has this name?", "reply; and later news: this name has changed"
    )
    drawn += note(
        190,
        BELOW + 70,
        "◉ The head is held until the reply comes; other clients go on.",
        "A name that rsp remembers costs no question.",
    )
    return frame(7, height, drawn)


DESCRIPTIONS = {
    1: "A request waits in the client's kernel, then in the proxy's. The proxy reads it once, up to 4096 bytes, and "
    "sends it on, through its kernel and the backend's. The answer comes back the same way, 4096 bytes at a time. Two "
    "more clients wait in the backlog.",
    2: "As in part 1, but for many clients at once, each with two sockets. The proxy holds one read of up to 4096 "
    "bytes in each direction. When a kernel's queue to send is full, what does not fit in is lost, marked red.",
    3: "As in part 2, lost bytes included. A file, config.lua, is run once, before the first byte comes; it says where "
    "the proxy listens and where the backend is. No byte passes through it.",
    4: "In each direction, bytes that the kernel does not take now wait in a write_buffer of up to 256 KiB. When that "
    "is full, the proxy stops reading the other side; the queues there fill up, and the sender has to wait.",
    5: "As in part 4, with several backends. One is chosen for each connection, before a byte is read; one that failed "
    "is left out. While it connects, what the client sends waits in the write_buffer; if the connect fails, the next "
    "backend gets all of it.",
    6: "As in part 5, but the choice comes later: the head of each request, or a TLS ClientHello, is first held in the "
    "proxy until it is whole. It names a host; only then is one of that host's backends chosen, and the bytes go on.",
    7: "As in part 6, with redis beside the proxy. While redis is asked which backends a name has, the head is held "
    "and the client waits; other clients go on. Later, redis says when a name has changed.",
}
FIGURES = {1: part_1, 2: part_2, 3: part_3, 4: part_4, 5: part_5, 6: part_6, 7: part_7}


def markdown(part, directory=""):
    """Return the lines that show a part's figure on a page."""
    return textwrap.fill(f"![{TITLE} {DESCRIPTIONS[part]}]({directory}{NAME})", 100, break_on_hyphens=False)


def main():
    """Write all figures, and print what shows them."""
    for part, draw in FIGURES.items():
        (ROOT / PARTS[part] / NAME).write_text(draw())
        print(markdown(part))


if __name__ == "__main__":
    main()

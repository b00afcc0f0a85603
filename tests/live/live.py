"""`make live`: the inside of a real proxy, in the browser.

    python tests/live/live.py [PART] [--beside PART] [--port PORT] [--scene NAME] [--record FILE]
    python tests/live/live.py --record-all

PART is a part (4), a step of one (4.3), `bug` (one from the museum, which isn't named), or your own directory with an
rsp.py. --beside shows a second one next to it, with the same clients. --record plays a scene without a browser and
writes it, page and all, into one file. It listens on 127.0.0.1 only; Ctrl-C ends everything.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = HERE / "page"

try:
    import tornado.web
    from scenes import SCENES, play
    from stage import HOST, OrderError, Stage, takes_config

    from support.parts import PARTS
except ImportError as error:
    sys.exit(f"{error.name} is missing. Install what this needs: make ready")

DEFAULT_PORT = 8099
MOST_MESSAGES = 8_000  # that are kept for a page that comes later, or comes back
THINNED_SECONDS = 0.03  # between two rounds of a recording
GAPS_SECONDS = 0.4  # between two lists of lost bytes in one
FIRST_PART, LAST_PART = 1, 5  # that can be shown


class Show:
    """All that the pages see: one or two stages, and whatever has happened on them."""

    def __init__(self, choices):
        """Show these parts; see `find_program."""
        self.choices = choices  # what the user asked for
        self.stages = []
        self.messages = []  # since the last start
        self.listeners = set()  # queues, one a page
        self.began = time.monotonic()
        self.busy = asyncio.Lock()  # one start at a time
        self.scene_task = None
        self.bug = None  # what is wrong with the part that is shown
        self.temporary = tempfile.TemporaryDirectory(prefix="rsp-live-")

    def tell(self, message, stage=None):
        """Send a message to all pages, and keep it."""
        message["at"] = round(time.monotonic() - self.began, 3)
        if stage is not None:
            message["stage"] = stage
        self.messages.append(message)
        del self.messages[: -MOST_MESSAGES - 1000 if len(self.messages) > MOST_MESSAGES + 1000 else 0]
        for listener in self.listeners:
            listener.put_nowait(message)

    async def start(self, choices=None, backends=None):
        """Start the stages again: those of a scene, or the ones that the user asked for."""
        async with self.busy:
            await self.stop_stages()
            self.messages.clear()
            self.began = time.monotonic()
            for listener in self.listeners:
                listener.put_nowait({"kind": "restart"})
            choices = choices or self.choices
            programs = [find_program(choice, self.temporary.name) for choice in choices]
            self.bug = next((told for told in map(bug_of, programs) if told), None)
            several = all(has_backends(program) for _, program in programs)
            count = backends or (3 if several else 1)
            for index, (title, program) in enumerate(programs):
                stage = Stage(program, takes_config(program), count)
                stage.tell = lambda frame, index=index: self.tell(frame, index)
                self.stages.append(stage)
                self.tell({"kind": "hello", "title": title, "has_bug": bool(self.bug)} | description(program), index)
                try:
                    await stage.start()
                except OrderError as error:
                    self.tell({"kind": "log", "text": str(error)}, index)
                    raise

    async def stop_stages(self):
        """End what runs."""
        while self.stages:
            await self.stages.pop().stop()

    async def stop(self):
        """End everything."""
        if self.scene_task:
            self.scene_task.cancel()
        await self.stop_stages()
        for listener in self.listeners:
            listener.put_nowait(None)
        await asyncio.sleep(0.1)  # for the pages' connections to end
        self.temporary.cleanup()

    async def do(self, order):
        """Follow one order of a page, on all stages; raise OrderError when that can't be done."""
        what = order.get("do")
        if what == "start":
            self.cancel_scene()
            await self.start()
        elif what == "tell-bug":
            self.tell({"kind": "log", "text": self.bug or "There is no bug from the museum here."}, 0)
        elif what == "scene":
            self.cancel_scene()
            self.scene_task = asyncio.create_task(self.play(order.get("name")))
        elif what == "answer":
            self.tell({"kind": "answer", "choice": str(order.get("choice"))})
        else:
            await asyncio.gather(*(act(stage, order) for stage in self.stages))
            self.tell({"kind": "action", "order": order})

    def cancel_scene(self):
        """End the scene that is being played."""
        if self.scene_task:
            self.scene_task.cancel()
            self.scene_task = None

    async def play(self, name):
        """Play a scene: its start, the question, and what happens when that is answered."""
        if name not in SCENES:
            raise OrderError(f"there is no scene {name!r}")
        try:
            await play(self, SCENES[name])
        except OrderError as error:
            self.tell({"kind": "log", "text": str(error)})

    async def next_message(self, kind):
        """Return the next message of a kind."""
        queue = asyncio.Queue()
        self.listeners.add(queue)
        try:
            while (message := await queue.get()) is None or message["kind"] != kind:
                pass
            return message
        finally:
            self.listeners.discard(queue)


async def act(stage, order):
    """Do on one stage what a page or a scene asks for."""
    what = order["do"]
    if what == "client":
        await stage.client(order.get("kind", "small"), int(order.get("count", 0)), order.get("rate"))
    elif what == "rate":
        stage.find_client(order["number"]).set_rate(order["rate"])
    elif what in ("half-close", "close", "reset"):
        await stage.find_client(order["number"]).leave(what)
    elif what == "pace":
        stage.set_pace(order["pace"], order.get("delay", 0.0), order.get("steps", 0))
    elif what in ("kill", "stop", "continue", "revive", "fill", "drain"):
        index = int(order.get("backend", 0))
        if not 0 <= index < len(stage.backends.ports):
            raise OrderError(f"there is no backend {index + 1}")
        await stage.backends.order(index, what)
    elif what == "upload-rate":
        for index in range(len(stage.backends.ports)):
            stage.backends.tell(index, rate=order["rate"])
    else:
        raise OrderError(f"unknown order {what!r}")
    stage.tell_peers()


def find_program(choice, directory):
    """Return the title and the rsp.py of a part, a step, a bug or a directory; raise OrderError when there is none."""
    choice = str(choice)
    if choice == "bug" or choice.startswith("bug:"):
        return bug_program(choice.partition(":")[2], directory)
    part, _, step = choice.partition(".")
    if part.isdigit() and not pathlib.Path(choice).is_dir():
        if not FIRST_PART <= int(part) <= LAST_PART:
            raise OrderError(f"PART={choice}: parts {FIRST_PART} to {LAST_PART} can be shown, and steps such as 4.3")
        if not step:
            return f"part {part}", ROOT / PARTS[int(part)] / "rsp.py"
        target = pathlib.Path(directory, f"step{choice}")
        if not target.exists():
            run = subprocess.run(
                [sys.executable, ROOT / "tests" / "steps.py", "lay-out", choice, target], capture_output=True, text=True
            )
            if run.returncode:
                raise OrderError(f"PART={choice}: {run.stderr.strip().splitlines()[-1]}")
        return f"part {part}, step {step}", target / "rsp.py"
    program = pathlib.Path(choice) / "rsp.py" if pathlib.Path(choice).is_dir() else pathlib.Path(choice)
    if not program.is_file():
        raise OrderError(f"PART={choice}: neither a part, a step, nor a directory with an rsp.py")
    return choice, program


def bug_program(name, directory):
    """Return part 4 with a bug from the museum; without a name, any of those for part 4."""
    from support.patches import patched_part

    museum = ROOT / "tests" / "exercises" / "museum"
    patches = [patch for patch in sorted(museum.glob("*.patch")) if "\npart: " not in patch.read_text()]
    if name:
        patches = [patch for patch in sorted(museum.glob("*.patch")) if patch.stem == name]
        if not patches:
            raise OrderError(f"there is no bug {name}")
    patch = random.choice(patches)
    part = int(next((line[6:] for line in patch.read_text().splitlines() if line.startswith("part: ")), 4))
    target = pathlib.Path(tempfile.mkdtemp(dir=directory)) / "part"
    (target.parent / "bug").write_text(f"{patch.stem}: {patch.read_text().splitlines()[0]}")
    return "part 4 with a bug", pathlib.Path(patched_part(part, patch, target))


def bug_of(found):
    """Return the name and the sentence of the bug that a program has, or None."""
    note = pathlib.Path(found[1]).parent.parent / "bug"
    return note.read_text() if note.exists() and found[0] == "part 4 with a bug" else None


def has_backends(program):
    """Return True if a program knows several backends."""
    return (pathlib.Path(program).parent / "backends.py").exists()


def description(program):
    """Return what the page needs to know of a program: its source, its rules, its limits."""
    directory = pathlib.Path(program).parent
    sources = {path.name: path.read_text(errors="replace") for path in sorted(directory.glob("*.py"))}
    limit = limit_in(sources, "WRITE_BUFFER_LIMIT")
    pause = limit and limit - (limit_in(sources, "BUFFER_SIZE") or 0)  # as PAUSE_ABOVE is worked out
    return {"sources": sources, "rules": rules_in(sources.get("pair.py", "")), "limit": limit, "pause": pause}


def rules_in(text):
    """Return the rules in the head of pair.py: what is so, and the step that follows.

    A row may be the common beginning of the rows below it, which are indented.
    """
    lines = iter(text.splitlines())
    if not any(line.split() == ["this", "side", "step"] for line in lines):
        return []
    rules, common = [], ""
    for line in itertools.takewhile(str.strip, lines):
        when, _, step = re.match(r"(.*?)(\s{2,}(\S.*))?$", line.strip()).groups()
        if not step:
            common = when
            continue
        if not line.startswith("      "):
            common = ""
        rules.append({"when": f"{common} {when}".strip(), "step": step})
    return rules


def limit_in(sources, name):
    """Return one of connection.py's constants, a number of bytes; None where there is none."""
    for line in sources.get("connection.py", "").splitlines():
        if line.startswith(f"{name} = "):
            return int(line.split("=")[1].split("#")[0])
    return None


# --- the web server ----------------------------------------------------------------------------------


class Guarded(tornado.web.RequestHandler):
    """Answers only to its own name: another one may be a page elsewhere that has pointed its name at this machine."""

    def prepare(self):
        """Refuse any other Host."""
        port = self.application.settings["port"]
        if self.request.host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            raise tornado.web.HTTPError(403)
        self.set_header("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'")
        self.set_header("Cache-Control", "no-store")


class PageHandler(Guarded):
    """The page and its files."""

    def get(self, name):
        """Send one of the few files that there are."""
        name = name or "index.html"
        kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
        path = PAGE / name
        if path.parent != PAGE or path.suffix not in kinds or not path.is_file():
            raise tornado.web.HTTPError(404)
        text = path.read_text()
        if name == "index.html":
            text = text.replace("{{token}}", self.application.settings["token"])
            self.set_header("X-Frame-Options", "DENY")
        self.set_header("Content-Type", kinds[path.suffix] + "; charset=utf-8")
        self.write(text)


class ScenesHandler(Guarded):
    """What scenes there are."""

    def get(self):
        """Send all of them."""
        self.write({"scenes": list(SCENES.values())})


class EventsHandler(Guarded):
    """Everything that happens, as server-sent events."""

    async def get(self):
        """Send what has happened, then what happens, until the page goes."""
        show = self.application.settings["show"]
        self.set_header("Content-Type", "text/event-stream")
        queue = asyncio.Queue()
        for message in show.messages:
            queue.put_nowait(message)
        show.listeners.add(queue)
        try:
            while True:
                messages = [await queue.get()]
                while not queue.empty() and len(messages) < 200:
                    messages.append(queue.get_nowait())
                if None in messages:  # the show is over
                    return
                self.write(f"data: {json.dumps(messages)}\n\n")
                await self.flush()
        except tornado.iostream.StreamClosedError:
            pass
        finally:
            show.listeners.discard(queue)


class OrderHandler(Guarded):
    """Takes the page's orders; each has to bring the token that only the page knows."""

    async def post(self):
        """Follow one order, and say why not if it can't be done."""
        if not secrets.compare_digest(self.request.headers.get("X-Token", ""), self.application.settings["token"]):
            raise tornado.web.HTTPError(403)
        try:
            await self.application.settings["show"].do(json.loads(self.request.body))
            self.write({"ok": True})
        except (OrderError, ValueError, KeyError, TypeError) as error:
            self.set_status(400)
            self.write({"error": str(error)})


def make_application(show, port, token):
    """Return the web application."""
    handlers = [
        (r"/events", EventsHandler),
        (r"/do", OrderHandler),
        (r"/scenes", ScenesHandler),
        (r"/([a-z_.]*)", PageHandler),
    ]
    return tornado.web.Application(handlers, show=show, port=port, token=token, log_function=lambda handler: None)


def one_file(messages, scene):
    """Return a page that plays what was recorded, without a proxy: one file, nothing from elsewhere."""
    page = (PAGE / "index.html").read_text()
    data = json.dumps({"scene": scene, "messages": messages}, separators=(",", ":")).encode()
    data = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    page = page.replace(
        '<link rel="stylesheet" href="live.css">', f"<style>\n{(PAGE / 'live.css').read_text()}</style>"
    )
    scripts = "".join(f"<script>\n{(PAGE / name).read_text()}</script>\n" for name in ("judges.js", "live.js"))
    start = page.index('<script src="judges.js">')
    end = page.index("</body>")
    return page[:start] + f'<script type="application/gzip" id="recording">{data}</script>\n' + scripts + page[end:]


async def record(show, name, file):
    """Play a scene without a browser, answering its question at once, and write it down."""
    playing = asyncio.create_task(play(show, SCENES[name], answered=True))
    await playing
    file.write_text(one_file(thinned(show.messages), SCENES[name]))


async def record_all(show):
    """Make all recordings again that are kept in the repository."""
    for name in SCENES:
        print(f"{name} ...", flush=True)
        await record(show, name, HERE / "recordings" / f"{name}.html")


def thinned(messages):
    """Return the messages without what a player does not need, so that a recording stays small.

    Of the sources, only files in which calls were made stay; of rounds that follow each other within a few
    milliseconds, and in which no rule was followed, one; and where bytes are lost, is told several times a second.
    """
    used = {(message.get("stage"), call["file"]) for message in messages for call in message.get("calls", ())}
    result, kept_at, gaps_at = [], {}, {}
    for message, following in zip(messages, [*messages[1:], {"kind": None}], strict=True):
        stage, at = message.get("stage"), message["at"]
        if message["kind"] == "hello":
            sources = {name: text for name, text in message["sources"].items() if (stage, name) in used}
            message = message | {"sources": sources}
        elif message["kind"] == "round":
            plain = not (message["rules"] or message["warnings"] or message["choices"])
            if plain and at - kept_at.get(stage, -1) < THINNED_SECONDS and following["kind"] == "round":
                continue
            kept_at[stage] = at
        if "lanes" in message and at - gaps_at.get(stage, -1) < GAPS_SECONDS and following["kind"] == "round":
            message = message | {"lanes": [lane | {"gaps": None} for lane in message["lanes"]]}
        elif "lanes" in message:
            gaps_at[stage] = at
        result.append(message)
    return result


def parse_arguments():
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="live.py", description="The inside of a real proxy, in the browser.")
    parser.add_argument("part", nargs="?", default="4", help="a part (4), a step (4.3), bug, or a directory")
    parser.add_argument("--beside", help="a second one, with the same clients")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="where the page is")
    parser.add_argument("--scene", choices=SCENES, help="a scene to begin with, or to record")
    parser.add_argument("--record-all", action="store_true", help="make the recordings that are kept again, and end")
    parser.add_argument("--record", metavar="FILE", type=pathlib.Path, help="write a scene into one file, and end")
    return parser.parse_args()


async def main():
    """Start the show and the page, and wait for Ctrl-C."""
    arguments = parse_arguments()
    show = Show([arguments.part] + ([arguments.beside] if arguments.beside else []))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        if arguments.record_all:
            await record_all(show)
            return
        if arguments.record:
            if not arguments.scene:
                sys.exit("--record needs a scene: --scene NAME")
            await record(show, arguments.scene, arguments.record)
            return
        await show.start()
        try:
            application = make_application(show, arguments.port, secrets.token_urlsafe(16))
            application.listen(arguments.port, address=HOST)
        except OSError as error:
            reason = os.strerror(error.errno)
            sys.exit(f"Can't listen on port {arguments.port}: {reason}. Choose another: make live LIVE_PORT=8098")
        print(f"Open http://{HOST}:{arguments.port}/ - Ctrl-C stops it.", flush=True)
        if arguments.scene:
            await show.do({"do": "scene", "name": arguments.scene})
        await ended.wait()
        print()
    except OrderError as error:
        sys.exit(f"{error}")
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await show.stop()


if __name__ == "__main__":
    asyncio.run(main())

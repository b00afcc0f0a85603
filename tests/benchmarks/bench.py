"""How fast each part is beside what people really use, on this machine, today: `make bench`.

    python tests/benchmarks/bench.py [--quick] [--proxy NAME='command with {port} {backend_host} {backend_port}']
    python tests/benchmarks/bench.py --switched-off    # part 4 beside itself, one thing switched off
    python tests/benchmarks/bench.py --backends        # part 5 with one backend, 3 or 100, beside part 4
    python tests/benchmarks/bench.py --hosts           # part 6 by the Host header, beside part 4, nginx http and others
    python tests/benchmarks/bench.py --tls             # part 6 by the server name of TLS, beside part 4 and others
    python tests/benchmarks/bench.py --redis           # part 7 with hosts in redis, beside part 6
    python tests/benchmarks/bench.py --against DIR     # part 4 as it is, beside DIR: part 4 as it was, say

Every workload is run on every contender in turn, round after round, so that a machine that slows down slows all of them
down. Each round has its own order, so that none of them always comes first, or always after the same one. A
figure is the median over the rounds; a ratio is the median of the ratios within each round. The first round warms up,
and is not counted; with --quick, it only checks the answers.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from contenders import BACKEND_SETS, REDIS_TOOLS, TLS_TOOLS, TOOLS, Field, default_names, need_tools, switched_off
from support.harness import Command
from support.parts import PARTS, ROOT
from support.programs import find
from workloads import (
    AGAINST_WORKLOADS,
    AT_ONCE,
    BACKENDS_WORKLOADS,
    HOSTS_WORKLOADS,
    REDIS_WORKLOADS,
    SWITCHED_OFF_WORKLOADS,
    TLS_WORKLOADS,
    WORKLOADS,
    Wrong,
    check_answers,
    make_certificate,
    make_site,
)

HERE = pathlib.Path(__file__).resolve().parent


def parse_arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small counts, one round: under two minutes")
    parser.add_argument(
        "--rounds", type=int, help="rounds that count, after one that warms up (5; quick: 1; --against, --backends: 15)"
    )
    parser.add_argument("--switched-off", action="store_true", help="part 4 beside what switched_off/ makes of it")
    parser.add_argument("--backends", action="store_true", help="part 5 with one backend, 3 or 100, beside part 4")
    parser.add_argument("--hosts", action="store_true", help="part 6 by the Host header, beside part 4 and others")
    parser.add_argument("--tls", action="store_true", help="part 6 by the server name of TLS, beside part 4 and others")
    parser.add_argument("--redis", action="store_true", help="part 7 with hosts in redis, beside part 6")
    parser.add_argument("--against", type=pathlib.Path, metavar="DIR", help="compare DIR, which is old, with --new")
    parser.add_argument(
        "--new", type=pathlib.Path, metavar="DIR", default=ROOT / PARTS[4], help="what is new (part4_buffering)"
    )
    parser.add_argument("--only", default="", help="contenders, separated by commas")
    parser.add_argument("--workloads", default="", help="workloads, separated by commas")
    parser.add_argument("--proxy", action="append", default=[], metavar="NAME=COMMAND", help="one more contender")
    parser.add_argument("--output", type=pathlib.Path, help="directory for results.json and results.png")
    return parser.parse_args()


def parse_extra(proxies):
    """Return the contenders of --proxy, name and Command; end the program when one has no name."""
    for proxy in proxies:
        if not re.match(r"[\w-]+=.", proxy):
            sys.exit(f"--proxy wants NAME='command with {{port}} {{backend_host}} {{backend_port}}', and got: {proxy}")
    return {name: Command(shlex.split(words)) for name, words in (proxy.split("=", 1) for proxy in proxies)}


def directory_command(directory):
    """Return the Command that starts the rsp.py of a directory; end the program when there is none."""
    program = directory.resolve() / "rsp.py"
    if not program.exists():
        sys.exit(f"There is no rsp.py in {directory}. Lay an old version out: git archive COMMIT PART | tar x -C DIR")
    return Command([sys.executable, str(program), "{config}"])


def choose(text, choices, what):
    """Return the chosen names, all when nothing was chosen; end the program when one does not exist."""
    chosen = [name for name in text.split(",") if name] or list(dict.fromkeys(choices))
    for name in chosen:
        if name not in choices:
            sys.exit(f"{name} is no {what}. Choose among: {', '.join(dict.fromkeys(choices))}")
    return chosen


@dataclass
class Comparison:
    """What is compared with what."""

    names: list  # contenders
    workloads: list
    bases: tuple  # those contenders that the others' ratios are to
    rounds: int  # unless other wishes are stated
    file: str  # name of what is saved, without its suffix


def choose_comparison(options, extra):
    """Return the Comparison that the command line asks for; adds to the `extra` contenders."""
    if options.against:
        extra |= {"old": directory_command(options.against), "new": directory_command(options.new)}
        return Comparison(["old", "new", "nginx"], AGAINST_WORKLOADS, ("old", "nginx"), 15, "against")
    if options.backends:
        names = ["part4", "part5", *BACKEND_SETS]
        return Comparison(names, BACKENDS_WORKLOADS, ("part4", "part5-3"), 15, "backends")
    if options.hosts:
        names = ["part4", "part6", "part6-http", "part6-route", "nginx-http", "haproxy-http"]
        names += ["proxy.py"] if importlib.util.find_spec("proxy") else []
        return Comparison(names, HOSTS_WORKLOADS, ("part4", "nginx-http", "proxy.py"), 10, "hosts")
    if options.tls:
        names = ["direct", "part4", "part6-tls", "nginx-sni", "haproxy-sni", "sniproxy"]
        return Comparison(names, TLS_WORKLOADS, ("part4", "nginx-sni"), 10, "tls")
    if options.redis:
        return Comparison(["part6-hosts", "part7", "part7-lua"], REDIS_WORKLOADS, ("part6-hosts",), 10, "redis")
    if options.switched_off:
        return Comparison(["part4", *switched_off()], SWITCHED_OFF_WORKLOADS, ("part4",), 5, "switched_off")
    return Comparison([*default_names(), *extra], WORKLOADS, ("nginx", "direct", "asyncio"), 5, "results")


def describe_machine():
    """Return what the figures depend on, a string for each."""

    def version(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return {
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "nginx": version(find("nginx"), "-v").rpartition("/")[2],
        "haproxy": version(find("haproxy"), "-v").split()[2],
        "descriptors": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    }


def measure(field, workloads, rounds, scale, warm_up):
    """Return {workload: {contender: [figures by name, for each round]}} and {workload: {contender: what was wrong}}."""
    figures = {workload.name: {} for workload in workloads}
    wrongs = {workload.name: {} for workload in workloads}
    for number in range(rounds + 1):
        for workload in workloads:
            for contender in order(field.contenders, number):
                if contender.name in workload.without or contender.name in wrongs[workload.name]:
                    continue
                progress(f"round {number} of {rounds}: {workload.title}, {contender.name}")
                try:
                    if number == 0:
                        check_answers(contender, workload)
                    if number or warm_up:
                        figure = measure_once(contender, workload, scale)
                except (Wrong, AssertionError, OSError) as wrong:
                    wrongs[workload.name][contender.name] = str(wrong)
                    figures[workload.name].pop(contender.name, None)
                    continue
                if number:
                    figures[workload.name].setdefault(contender.name, []).append(figure)
    progress("")
    names = [contender.name for contender in field.contenders]
    return tuple(
        {workload: {name: rows[name] for name in names if name in rows} for workload, rows in found.items()}
        for found in (figures, wrongs)
    )


def order(contenders, number):
    """Return the contenders in a round: forwards, then backwards, then both with the next one at the head."""
    turn = number // 2 % len(contenders)
    turned = contenders[turn:] + contenders[:turn]
    return turned[::-1] if number % 2 else turned


def progress(text):
    """Show what is going on, on one line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def measure_once(contender, workload, scale):
    """Return the figures of one run, by name; processor times are those of the contender, in microseconds a unit."""
    if workload.is_crowd:
        return dict(zip(("bytes a connection", "milliseconds"), workload.run(contender, scale), strict=True))
    before = contender.processor_time()
    rate, amount = workload.run(contender, scale)
    figure = {"rate": rate}
    if before:
        for name, start, end in zip(("user µs", "kernel µs"), before, contender.processor_time(), strict=True):
            figure[name] = 1e6 * (end - start) / amount
    return figure


def summarise(figures, bases):
    """Return, for each workload and contender, the medians of all figures, and of the ratios to the bases."""
    summary = {}
    for workload, rows in figures.items():
        summary[workload] = {}
        for name, values in rows.items():
            entry = {key: median_of(values, key) for key in values[0]}
            if "rate" in entry:
                rates = [value["rate"] for value in values]
                entry |= {"least": min(rates), "greatest": max(rates)}
                for base in bases:
                    if base in rows:  # round by round: a slow minute slows both
                        pairs = list(zip(rates, [value["rate"] for value in rows[base]], strict=True))
                        entry[f"to {base}"] = statistics.median(own / other for own, other in pairs)
                        if workload == "connections" and base == "direct":
                            entry["added ms"] = statistics.median(1000 / own - 1000 / other for own, other in pairs)
                        if base in ("old", "part4") and len(pairs) > 1:
                            low, _, high = statistics.quantiles((own / other for own, other in pairs), n=4)
                            entry["middle half"] = f"{low:.2f}–{high:.2f}"
            summary[workload][name] = entry
    return summary


def median_of(values, key):
    """Return the median of one figure over the rounds; None when it does not apply."""
    figures = [value[key] for value in values]
    return None if None in figures else statistics.median(figures)


COLUMNS = {"to old": (8, ".3f"), "to part4": (10, ".2f"), "middle half": (13, ""), "to nginx": (10, ".2f"),
           "to direct": (11, ".2f"), "to nginx-http": (15, ".2f"), "to proxy.py": (13, ".2f"),
           "to nginx-sni": (14, ".2f"), "to part6-hosts": (16, ".2f"),
           "to part5-3": (12, ".2f"), "added ms": (10, ".3f"), "user µs": (9, ",.0f"),
           "kernel µs": (11, ",.0f")}  # fmt: skip


# For each comparison, which part it holds to something, and to what: the line's title; the contender; workload and
# figure; the least, or the most, that it is to reach.
AIMS = {
    "results": ("part 4", [
        ("a connection per request, to nginx", "part4", "connections", "to nginx", 0.95, None),
        ("keep-alive, to nginx", "part4", "keep-alive", "to nginx", 1.0, None),
        ("10 MB answers, to nginx", "part4", "bulk", "to nginx", 1.5, None),
        ("10 MB uploads, to nginx", "part4", "upload", "to nginx", 1.0, None),
        ("a connection per request, to asyncio", "part4", "connections", "to asyncio", 3.0, None),
        ("bytes an idle client", "part4", "idle", "bytes a connection", None, 1000),
    ]),
    "hosts": ("part 6, by the Host header,", [
        ("a connection per request, to part 4", "part6-http", "connections", "to part4", 0.8, None),
        ("keep-alive, to part 4", "part6-http", "keep-alive", "to part4", 0.7, None),
        ("10 MB answers, to part 4", "part6-http", "bulk", "to part4", 0.95, None),
        ("a connection per request, to proxy.py", "part6-http", "few", "to proxy.py", 3.0, None),
    ]),
    "tls": ("part 6, by the server name,", [
        ("a TLS connection per request, to part 4", "part6-tls", "tls-connections", "to part4", 0.85, None),
    ]),
    "redis": ("part 7", [
        ("one host in redis, to one in part 6's config", "part7", "one-host", "to part6-hosts", 0.95, None),
        ("9,999 hosts, to part 6", "part7", "many-hosts", "to part6-hosts", 0.95, None),
        ("keep-alive, to part 6", "part7", "keep-alive", "to part6-hosts", 0.95, None),
    ]),
}  # fmt: skip


def table(summary, wrongs, workloads):
    """Return the results as text."""
    lines = []
    for workload in workloads:
        rows = summary[workload.name]
        if workload.is_crowd:
            lines += ["", f"{workload.title:<26}{'bytes each':>12}{'a request, ms':>15}"]
            for name, row in rows.items():
                each = "–" if row["bytes a connection"] is None else f"{row['bytes a connection']:,.0f}"
                lines.append(f"  {name:<24}{each:>12}{row['milliseconds']:>15.2f}")
        else:
            columns = {key: form for key, form in COLUMNS.items() if any(key in row for row in rows.values())}
            heads = "".join(f"{key:>{width}}" for key, (width, _) in columns.items())
            lines += ["", f"{workload.title:<26}{workload.unit:>12}{'spread':>16}{heads}"]
            for name, row in rows.items():
                spread = f"{row['least']:,.0f}–{row['greatest']:,.0f}"
                cells = "".join(f"{format(row[key], form) if key in row else '–':>{width}}"
                                for key, (width, form) in columns.items())  # fmt: skip
                lines.append(f"  {name:<24}{row['rate']:>12,.0f}{spread:>16}{cells}")
        lines += [f"  {name:<24}does not count: {wrong}" for name, wrong in wrongs[workload.name].items()]
    lines += ["", "user, kernel µs: the contender's own processor time for each request or MB"]
    if any("added ms" in row for rows in summary.values() for row in rows.values()):
        lines += [f"added ms: what a request takes longer than direct, mean across {AT_ONCE} at once"]
    return "\n".join(lines[1:])


def held_to(summary, comparison="results"):
    """Return, as text, what a part is held to beside what this run has measured; "" when that was not measured."""
    part, aims = AIMS.get(comparison, ("", []))
    lines = []
    width = max([40, *(len(title) + 1 for title, *_ in aims)])
    for title, contender, workload, figure, least, most in aims:
        measured = summary.get(workload, {}).get(contender, {}).get(figure)
        if measured is not None:
            wanted = f"at least {least:.2f}" if least else f"at most {most:,}"
            reached = measured >= least if least else measured <= most
            shown = f"{measured:.2f}" if least else f"{measured:,.0f}"
            lines.append(f"  {title:<{width}}{wanted:>16}{shown:>10}{'' if reached else '   missed'}")
    return "\n".join([f"what {part} is held to", *lines]) if lines else ""


def draw(summary, workloads, machine, base, path):
    """Draw the rates as bars, one panel for each workload, two in a row, with a line at the base's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [workload for workload in workloads if not workload.is_crowd and summary[workload.name]]
    names = list(dict.fromkeys(name for workload in panels for name in summary[workload.name]))[::-1]
    rows = (len(panels) + 1) // 2
    size = (10, 0.9 + rows * (1.2 + 0.28 * len(names)))
    figure, axes = plt.subplots(rows, 2, figsize=size, sharey=True, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches
    for axis, workload in zip(axes.flat, panels, strict=False):
        draw_panel(axis, workload, summary[workload.name], names, base)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    details = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "descriptors")
    title = f"More is better. Whiskers: the least and the greatest. Dashed: {base}. –: does not count."
    figure.suptitle(f"{title}\n{details}", fontsize=12)
    figure.savefig(path, dpi=100)


def draw_panel(axis, workload, rows, names, base):
    """Draw the bars of one workload, one for each of the names."""
    for place, name in enumerate(names):
        if name not in rows:
            axis.text(0, place, " –", va="center", fontsize=12)
            continue
        row = rows[name]
        ours = name.startswith(("part", "new"))
        axis.barh(place, row["rate"], color="#0072B2" if ours else "#BBBBBB", edgecolor="black",
                  hatch="//" if name in ("part4", "new") else None)  # fmt: skip
        whiskers = [[row["rate"] - row["least"]], [row["greatest"] - row["rate"]]]
        axis.errorbar(row["rate"], place, xerr=whiskers, color="black", capsize=3)
    if base in rows:
        axis.axvline(rows[base]["rate"], color="#D55E00", linestyle="--", linewidth=2)
    axis.set_title(workload.title, fontsize=13)
    axis.set_xlabel(workload.unit, fontsize=12)
    axis.set_yticks(range(len(names)), names, fontsize=12)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.locator_params(axis="x", nbins=5)


def main():
    """Measure, print, save."""
    options = parse_arguments()
    extra = parse_extra(options.proxy)
    comparison = choose_comparison(options, extra)
    names = choose(options.only, list(dict.fromkeys([*comparison.names, *extra])), "contender")
    wanted = choose(options.workloads, [workload.name for workload in comparison.workloads], "workload")
    workloads = [workload for workload in comparison.workloads if workload.name in wanted]
    need_tools(TLS_TOOLS if options.tls else REDIS_TOOLS if options.redis else TOOLS)
    scale = 0.1 if options.quick else 1
    rounds = options.rounds or (1 if options.quick else comparison.rounds)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < 9500 * scale and any(workload.name == "idle" for workload in workloads):
        sys.exit(f"4,500 idle clients need 9,500 descriptors, and the limit is {limit}. Raise it: ulimit -Hn 20000")

    start = time.monotonic()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="rsp-bench-", dir="/dev/shm") as directory:
        directory = pathlib.Path(directory)
        make_site(directory)
        if options.tls:
            make_certificate(directory)
        try:
            with Field(directory, names, extra, min(limit, 20_000), tls=options.tls, redis=options.redis) as field:
                figures, wrongs = measure(field, workloads, rounds, scale, warm_up=not options.quick)
        except LookupError as error:  # a patch that does not apply, or no git to apply it with
            sys.exit(str(error))
    summary = summarise(figures, comparison.bases)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"median of {rounds} rounds, {time.monotonic() - start:.0f} s\n")
    print(table(summary, wrongs, workloads))
    if held := held_to(summary, comparison.file):
        print(f"\n{held}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / comparison.file
        results = {"machine": machine, "rounds": rounds, "summary": summary, "wrong": wrongs, "figures": figures}
        path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        if any(not workload.is_crowd and summary[workload.name] for workload in workloads):
            draw(summary, workloads, machine, comparison.bases[0], path.with_suffix(".png"))
        print(f"\nSaved as {path.name}.json and {path.name}.png in {os.path.relpath(options.output)}")


if __name__ == "__main__":
    main()

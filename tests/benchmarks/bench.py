"""How fast each part is beside what people really use, on this machine, today: `make bench`.

    python tests/benchmarks/bench.py [--quick] [--proxy NAME='command with {port} {backend_host} {backend_port}']

Every workload is run on every contender in turn, round after round, so that a machine that slows down slows all of them
down. A figure is the median over the rounds; a ratio is the median of the ratios within each round. The first round
warms up, and is not counted.
"""
import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import Field, default_names, missing_tools
from workloads import AT_ONCE, WORKLOADS, Wrong, check_answers, make_site

HERE = pathlib.Path(__file__).resolve().parent
BASES = ("nginx", "direct")  # what the ratios refer to


def parse_arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small counts, one round: under two minutes")
    parser.add_argument("--rounds", type=int, help="rounds that count, after one that warms up (5; quick: 1)")
    parser.add_argument("--only", default="", help="contenders, separated by commas")
    parser.add_argument("--workloads", default="", help="workloads, separated by commas")
    parser.add_argument("--proxy", action="append", default=[], metavar="NAME=COMMAND", help="one more contender")
    parser.add_argument("--output", type=pathlib.Path, help="directory for results.json and results.png")
    return parser.parse_args()


def describe_machine():
    """Return what the figures depend on, a string for each."""

    def version(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return {
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "nginx": version("nginx", "-v").rpartition("/")[2],
        "haproxy": version("haproxy", "-v").split()[2],
        "descriptors": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    }


def measure(field, workloads, rounds, scale):
    """Return {workload: {contender: [a figure for each round]}} and {workload: {contender: what was wrong}}."""
    figures = {workload.name: {} for workload in workloads}
    wrongs = {workload.name: {} for workload in workloads}
    for number in range(rounds + 1):
        for workload in workloads:
            for contender in field.contenders:
                if contender.name in workload.without or contender.name in wrongs[workload.name]:
                    continue
                progress(f"round {number} of {rounds}: {workload.title}, {contender.name}")
                try:
                    if number == 0:
                        check_answers(contender, workload)
                    figure = workload.run(contender, scale)
                except Wrong as wrong:
                    wrongs[workload.name][contender.name] = str(wrong)
                    figures[workload.name].pop(contender.name, None)
                    continue
                if number:
                    figures[workload.name].setdefault(contender.name, []).append(figure)
    progress("")
    return figures, wrongs


def progress(text):
    """Show what is going on, on one line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def ratios(rows, name, base):
    """Return the ratios to another contender, round by round; none when one of the two was not measured."""
    if name not in rows or base not in rows:
        return []
    return [own / other for own, other in zip(rows[name], rows[base], strict=True) if own and other]


def summarise(figures):
    """Return, for each workload and contender, median, least, greatest, and the median ratios."""
    summary = {}
    for workload, rows in figures.items():
        if workload == "idle":
            summary[workload] = {
                name: {
                    "bytes a connection": statistics.median(row[0] for row in values) if values[0][0] else None,
                    "milliseconds": statistics.median(row[1] for row in values),
                }
                for name, values in rows.items()
            }
            continue
        summary[workload] = {}
        for name, values in rows.items():
            entry = {"median": statistics.median(values), "least": min(values), "greatest": max(values)}
            for base in BASES:
                if found := ratios(rows, name, base):
                    entry[f"to {base}"] = statistics.median(found)
            if workload == "connections" and "direct" in rows:
                pairs = zip(values, rows["direct"], strict=True)
                entry["added ms"] = statistics.median(1000 / own - 1000 / direct for own, direct in pairs)
            summary[workload][name] = entry
    return summary


def table(summary, wrongs, workloads):
    """Return the results as text."""
    lines = []
    for workload in workloads:
        rows = summary[workload.name]
        if workload.name == "idle":
            lines += ["", f"{workload.title:<26}{'bytes each':>12}{'a request, ms':>15}"]
            for name, row in rows.items():
                each = "–" if row["bytes a connection"] is None else f"{row['bytes a connection']:,.0f}"
                lines.append(f"  {name:<24}{each:>12}{row['milliseconds']:>15.2f}")
        else:
            heads = f"{workload.unit:>12}{'spread':>16}{'to nginx':>10}{'to direct':>11}"
            lines += ["", f"{workload.title:<26}{heads}" + ("   added ms" if workload.name == "connections" else "")]
            for name, row in rows.items():
                spread = f"{row['least']:,.0f}–{row['greatest']:,.0f}"
                cells = "".join(f"{row[key]:>{width}.2f}" if key in row else "–".rjust(width)
                                for key, width in (("to nginx", 10), ("to direct", 11)))  # fmt: skip
                added = f"{row['added ms']:>11.3f}" if "added ms" in row else ""
                lines.append(f"  {name:<24}{row['median']:>12,.0f}{spread:>16}{cells}{added}")
        lines += [f"  {name:<24}does not count: {wrong}" for name, wrong in wrongs[workload.name].items()]
    lines += ["", f"added ms: what a request takes longer than direct, mean across {AT_ONCE} at once"]
    return "\n".join(lines[1:])


def draw(summary, workloads, machine, path):
    """Draw the rates as bars, one panel for each workload, relative to nginx."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [workload for workload in workloads if workload.name != "idle" and summary[workload.name]]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4.5), sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for workload in panels for name in summary[workload.name]))[::-1]
    for axis, workload in zip(axes[0], panels, strict=True):
        rows = summary[workload.name]
        for place, name in enumerate(names):
            if name not in rows:
                axis.text(0, place, " –", va="center", fontsize=11)
                continue
            ours = name.startswith("part")
            axis.barh(place, rows[name]["median"], color="#0072B2" if ours else "#BBBBBB", edgecolor="black",
                      hatch="//" if name == "part4" else None)  # fmt: skip
            low = rows[name]["median"] - rows[name]["least"]
            high = rows[name]["greatest"] - rows[name]["median"]
            axis.errorbar(rows[name]["median"], place, xerr=[[low], [high]], color="black", capsize=3)
        if "nginx" in rows:
            axis.axvline(rows["nginx"]["median"], color="#D55E00", linestyle="--", label="nginx")
        axis.set_title(workload.title, fontsize=13)
        axis.set_xlabel(workload.unit, fontsize=12)
        axis.set_yticks(range(len(names)), names, fontsize=12)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
    details = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "descriptors")
    figure.suptitle(f"More is better; whiskers from least to greatest; dashed: nginx  ({details})", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    """Measure, print, save."""
    options = parse_arguments()
    if missing := missing_tools():
        sys.exit("These tools are missing. " + "; ".join(missing))
    extra = dict(proxy.split("=", 1) for proxy in options.proxy)
    names = options.only.split(",") if options.only else [*default_names(), *extra]
    wanted = options.workloads.split(",") if options.workloads else [workload.name for workload in WORKLOADS]
    workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    scale = 0.1 if options.quick else 1
    rounds = options.rounds or (1 if options.quick else 5)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < 9500 * scale and "idle" in wanted:
        sys.exit(f"4,500 idle clients need 9,500 descriptors, and the limit is {limit}. Raise it: ulimit -Hn 20000")

    start = time.monotonic()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="rsp-bench-", dir="/dev/shm") as directory:
        directory = pathlib.Path(directory)
        make_site(directory)
        with Field(directory, names, extra, min(limit, 20_000)) as field:
            figures, wrongs = measure(field, workloads, rounds, scale)
    summary = summarise(figures)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"median of {rounds} rounds, {time.monotonic() - start:.0f} s\n")
    print(table(summary, wrongs, workloads))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        results = {"machine": machine, "rounds": rounds, "summary": summary, "wrong": wrongs, "figures": figures}
        (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        draw(summary, workloads, machine, options.output / "results.png")
        print(f"\nSaved as results.json and results.png in {os.path.relpath(options.output)}")


if __name__ == "__main__":
    main()

"""The posts' headline: a million requests through part 4, 100 at a time, each on its own connection; and keep-alive.

    python tests/benchmarks/million.py [--requests N] [--output DIRECTORY]

The million comes in ten slices, and with each one, direct and nginx get a fifth of a slice, so that what is compared
was measured in the same minute. One failed request ends it all.
"""

import argparse
import json
import pathlib
import resource
import statistics
import sys
import tempfile

from bench import describe_machine, order, progress
from contenders import Field, need_tools
from support.peers import wait_until_still
from workloads import AT_ONCE, Wrong, make_site, number_after, run_ab

SLICES = 10
MOST_TO_NGINX = 1.15  # what part 4 may add to a request, times what nginx adds
KINDS = {"a connection per request": [], "keep-alive": ["-k"]}  # options of ab


def milliseconds(contender, requests, options):
    """Return the mean time of a request, across all that run at once, as ab states it and the posts quote it."""
    return 1000 / number_after("Requests per second:", run_ab(contender, requests, *options))


def state(contender):
    """Return memory in bytes and open descriptors, once the last connections have closed; both None for direct."""
    if contender.process:
        wait_until_still(contender.open_files)
    return contender.memory(), contender.open_files()


def run_kind(contenders, requests, options):
    """Return what all the slices of one kind say, by the contender's name."""
    times = {contender.name: [] for contender in contenders}
    slices = {contender.name: requests // SLICES // (1 if contender.name == "part4" else 5) for contender in contenders}
    failed = 0  # run_ab raises Wrong at the first one
    for contender in contenders:  # warm up
        milliseconds(contender, min(5000, requests // SLICES), options)
    before = {contender.name: state(contender) for contender in contenders}
    for number in range(SLICES):
        for contender in order(contenders, number):
            progress(f"slice {number + 1} of {SLICES}, {' '.join(['ab', *options])}, {contender.name}")
            times[contender.name].append(milliseconds(contender, slices[contender.name], options))
    progress("")
    return {
        contender.name: {
            "requests": slices[contender.name] * SLICES,
            "failed": failed,
            "mean ms": statistics.median(times[contender.name]),
            "added ms": statistics.median(map(float.__sub__, times[contender.name], times["direct"])),
            "before": before[contender.name],
            "after": state(contender),
        }
        for contender in contenders
    }


def table(results):
    """Return the results as text."""
    lines = []
    for kind, rows in results.items():
        heads = f"{'requests':>11}{'failed':>8}{'mean ms':>9}{'added ms':>10}{'memory, KiB':>19}{'descriptors':>13}"
        lines += ["", f"{kind:<26}{heads}"]
        for name, row in rows.items():
            memory = descriptors = "–"
            if row["before"][0] is not None:
                memory = " → ".join(f"{state[0] // 1024:,}" for state in (row["before"], row["after"]))
                descriptors = " → ".join(str(state[1]) for state in (row["before"], row["after"]))
            times = f"{row['mean ms']:>9.3f}{row['added ms']:>10.3f}"
            lines.append(f"  {name:<24}{row['requests']:>11,}{row['failed']:>8}{times}{memory:>19}{descriptors:>13}")
    return "\n".join(lines[1:])


def held_to(results):
    """Return, as text, how what part 4 adds to a request compares to what nginx adds, and to what it is held."""
    lines = []
    for kind, rows in results.items():
        ratio = rows["part4"]["added ms"] / rows["nginx"]["added ms"]
        missed = "" if ratio <= MOST_TO_NGINX else "   missed"
        lines.append(f"  {kind:<40}{f'at most {MOST_TO_NGINX:.2f}':>16}{ratio:>10.2f}{missed}")
    return "\n".join(["what part 4 adds, to what nginx adds in the same run", *lines])


def main():
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="through part 4, of each kind (a million)")
    parser.add_argument("--output", type=pathlib.Path, help="directory for million.json")
    options = parser.parse_args()
    need_tools()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with tempfile.TemporaryDirectory(prefix="rsp-bench-", dir="/dev/shm") as directory:
        directory = pathlib.Path(directory)
        make_site(directory)
        with Field(directory, ["direct", "nginx", "part4"], {}, min(limit, 20_000)) as field:
            try:
                results = {kind: run_kind(field.contenders, options.requests, words) for kind, words in KINDS.items()}
            except Wrong as wrong:
                sys.exit(f"A request went wrong: {wrong}")
    machine = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{AT_ONCE} at a time, medians of {SLICES} slices\n\n{table(results)}\n\n{held_to(results)}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        results = {"machine": machine, "results": results}
        (options.output / "million.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The benchmark runs, and counts only right answers; how fast anything is, no test asks."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import million
from bench import held_to, order, table
from contenders import BACKEND_SETS, REDIS_TOOLS, TLS_TOOLS, TOOLS, part4_without, switched_off
from pytest_runs import outcomes
from support.harness import ARGUMENTS, Command
from support.parts import PARTS, ROOT
from workloads import (
    BACKENDS_WORKLOADS,
    HOSTS_WORKLOADS,
    REDIS_WORKLOADS,
    SWITCHED_OFF_WORKLOADS,
    TLS_WORKLOADS,
    WORKLOADS,
)

BENCHMARKS = ROOT / "tests" / "benchmarks"
BENCH = [sys.executable, str(BENCHMARKS / "bench.py"), "--quick", "--rounds", "1"]
NEEDS_TOOLS = pytest.mark.needs(*TOOLS)


def saved(name):
    """Return what a run has saved."""
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())


def tables():
    """Return the page and the table that it should show, for each saved run."""
    results, without, sets = saved("results"), saved("switched_off"), saved("backends")
    hosts = [*HOSTS_WORKLOADS[:3], HOSTS_WORKLOADS[-1]]
    more = {"hosts": hosts, "tls": TLS_WORKLOADS, "redis": REDIS_WORKLOADS}
    runs = {name: saved(name) for name in more}
    shown = {name: ("README.md", table(runs[name]["summary"], runs[name]["wrong"], more[name])) for name in more}
    return shown | {
        "results": ("README.md", table(results["summary"], results["wrong"], WORKLOADS)),
        "million": ("README.md", million.table(saved("million")["results"])),
        "backends": ("README.md", table(sets["summary"], sets["wrong"], BACKENDS_WORKLOADS[:1])),
        "switched_off": ("meaning.md", table(without["summary"], without["wrong"], SWITCHED_OFF_WORKLOADS)),
    }


@pytest.mark.parametrize("name", ["results", "million", "backends", "switched_off", "hosts", "tls", "redis"])
def test_the_page_shows_the_run_that_was_saved(name):
    """The tables in the benchmark's pages are the ones that the saved runs make."""
    page, shown = tables()[name]
    assert shown in (BENCHMARKS / page).read_text(), (
        f"tests/benchmarks/{page} shows another run than results/{name}.json. Hint: paste this:\n{shown}"
    )


def test_the_first_page_has_the_figures_of_the_million():
    """What README.md says of the million requests is what the run that was saved has measured."""
    kinds = saved("million")["results"].values()
    own, kept = [[f"{rows[name]['added ms']:.3f} ms" for name in ("part4", "nginx")] for rows in kinds]
    claim = f"Each took {own[0]} longer than without a proxy; nginx added {own[1]}. On connections that stay open it"
    claim += f" was {kept[0]} and {kept[1]}."
    assert claim in " ".join((ROOT / "README.md").read_text().split()), f"README.md should say: {claim}"
    assert all(rows["part4"]["failed"] == 0 and rows["part4"]["requests"] == 1_000_000 for rows in kinds)


def test_the_page_shows_what_the_parts_are_held_to():
    """Next to each table is how close a part came to the course's own aims."""
    page = (BENCHMARKS / "README.md").read_text()
    runs = [held_to(saved(name)["summary"], name) for name in ("results", "hosts", "tls", "redis")]
    for shown in (*runs, million.held_to(saved("million")["results"])):
        assert shown
        assert shown in page, f"tests/benchmarks/README.md shows something else. Hint: paste this:\n{shown}"


def run_bench(*words):
    """Run the benchmark; return what it prints."""
    run = subprocess.run([*BENCH, *words], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@NEEDS_TOOLS
def test_every_workload_gives_a_figure_for_each_contender_that_can_do_it(tmp_path):
    """Table, JSON and picture come out, with positive figures."""
    output = run_bench("--only", "direct,part4", "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["wrong"] == {name: {} for name in ("connections", "keep-alive", "bulk", "upload", "idle")}
    for workload, rows in results["summary"].items():
        assert list(rows) == ["direct", "part4"], workload
        for name, row in rows.items():
            assert row["milliseconds" if workload == "idle" else "rate"] > 0, (workload, name)
            assert f"  {name} " in output
    assert results["summary"]["connections"]["direct"]["to direct"] == 1
    assert results["summary"]["connections"]["part4"]["kernel µs"] > 0
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


@NEEDS_TOOLS
def test_a_contender_that_loses_bytes_does_not_count(tmp_path):
    """Part 3 is fast because it throws bytes away: no figure for that."""
    run_bench("--only", "part3,part4", "--workloads", "bulk", "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["summary"]["bulk"]) == ["part4"]
    assert "bytes arrived" in results["wrong"]["bulk"]["part3"]


@NEEDS_TOOLS
@pytest.mark.parametrize("part", ["part2", "part3"])
def test_an_upload_that_loses_bytes_does_not_count(tmp_path, part):
    """A backend that begins to read late shows what was thrown away, on every run."""
    run_bench("--only", f"{part},part4", "--workloads", "upload", "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["summary"]["upload"]) == ["part4"]
    assert "uploaded bytes arrived" in results["wrong"]["upload"][part]


@NEEDS_TOOLS
def test_two_directories_can_be_compared(tmp_path):
    """An old part 4 beside the new one: rates have a ratio to the old one's, and who stalls has little memory."""
    old = tmp_path / "old"
    shutil.copytree(ROOT / PARTS[4], old, ignore=shutil.ignore_patterns("__pycache__", "steps"))
    words = ["--against", str(old), "--workloads", "connections,stalled", "--rounds", "2"]
    output = run_bench(*words, "--output", str(tmp_path))
    summary = json.loads((tmp_path / "against.json").read_text())["summary"]
    assert list(summary["connections"]) == list(summary["stalled"]) == ["old", "new", "nginx"]
    assert summary["connections"]["new"]["to old"] > 0 and "to old" in output
    for name in ("old", "new"):
        assert 0 < summary["stalled"][name]["bytes a connection"] < 600_000, summary["stalled"][name]


@NEEDS_TOOLS
def test_sets_of_backends_can_be_compared(tmp_path):
    """Part 5 with 3 backends, with 100, and with a Lua function: each has a ratio to part 4, and to the set of 3."""
    output = run_bench("--backends", "--workloads", "connections", "--output", str(tmp_path))
    results = json.loads((tmp_path / "backends.json").read_text())
    assert results["wrong"] == {"connections": {}}
    rows = results["summary"]["connections"]
    assert list(rows) == ["part4", "part5", *BACKEND_SETS]
    for name, row in rows.items():
        assert row["to part4"] == pytest.approx(row["rate"] / rows["part4"]["rate"]) and row["rate"] > 0, name
        assert row["to part5-3"] == pytest.approx(row["rate"] / rows["part5-3"]["rate"]), name
        assert f"  {name} " in output


@pytest.mark.needs(*TLS_TOOLS, *REDIS_TOOLS)
@pytest.mark.parametrize(
    "option, workload, contender",
    [
        ("--hosts", "connections", "part6-http"),
        ("--tls", "tls-connections", "part6-tls"),
        ("--redis", "many-hosts", "part7-lua"),
    ],
)
def test_parts_that_look_can_be_compared(option, workload, contender, tmp_path):
    """Part 6 by Host header and by TLS server name, part 7 with hosts in redis: all answers are right."""
    run_bench(option, "--workloads", workload, "--output", str(tmp_path))
    results = json.loads((tmp_path / f"{option[2:]}.json").read_text())
    assert results["wrong"] == {workload: {}}
    assert results["summary"][workload][contender]["rate"] > 0


def test_what_choosing_costs_is_measured_for_every_balance():
    """A figure for each way to choose, with 1 backend, 3 and 100."""
    program = [sys.executable, str(BENCHMARKS / "choose.py"), "--clients", "300"]
    run = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-2000:]
    head, *lines = run.stdout.splitlines()
    assert re.findall(r"\d+$|\d+(?= )", head) == ["1", "3", "100"]
    rows = dict(re.fullmatch(r"  (\S.*?)((?: +\d+\.\d){3})", line).groups() for line in lines)
    assert list(rows) == ["round_robin", "least_conn", "random", "ip_hash", "a Lua function"]
    assert all(float(figure) > 0 for figures in rows.values() for figure in figures.split()), run.stdout


def test_no_contender_always_comes_first_or_after_the_same_one():
    """Two rounds go forwards and backwards, and the next two begin with another contender."""
    rounds = ["".join(order(["a", "b", "c"], number)) for number in range(6)]
    assert rounds == ["abc", "cba", "bca", "acb", "cab", "bac"]


@NEEDS_TOOLS
def test_any_program_can_be_compared(tmp_path):
    """Your own contender comes with --proxy NAME=COMMAND."""
    command = shlex.join([sys.executable, f"{ROOT}/part2_epoll/rsp.py", *ARGUMENTS])
    words = ["--only", "nginx,haproxy,asyncio,mine", "--proxy", f"mine={command}", "--workloads", "connections"]
    run_bench(*words, "--output", str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text())["summary"]["connections"]
    assert list(rows) == ["nginx", "haproxy", "asyncio", "mine"]
    assert rows["mine"]["to nginx"] == rows["mine"]["rate"] / rows["nginx"]["rate"] > 0


@pytest.mark.needs("git")
@pytest.mark.parametrize("name", switched_off())
def test_part_4_works_with_this_or_that_switched_off(name, tmp_path):
    """Each patch applies, and what it makes of part 4 still loses no byte: only its speed may differ."""
    command = Command([sys.executable, str(part4_without(name, tmp_path)), "{config}"])
    tests = outcomes(command, "-k", "slow_client or slow_backend", ROOT / "tests" / "suite" / "test_behaviours.py")
    assert [test.passed for test in tests] == [True, True], tests


@NEEDS_TOOLS
def test_not_one_of_a_million_requests_fails(tmp_path):
    """The program that measures the headline works, with fewer requests: none fails, and no descriptor stays open."""
    program = [sys.executable, str(BENCHMARKS / "million.py"), "--requests", "5000", "--output", str(tmp_path)]
    run = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    for kind, rows in json.loads((tmp_path / "million.json").read_text())["results"].items():
        assert rows["part4"]["failed"] == 0 and rows["part4"]["mean ms"] > 0, kind
        spare = 1  # a backend's socket that part 4 may have in reserve for the next client
        assert rows["part4"]["after"][1] <= rows["part4"]["before"][1] + spare, kind


@NEEDS_TOOLS
@pytest.mark.needs(*TOOLS, "valgrind")
def test_instructions_are_counted():
    """Part 4 itself needs some tens of thousands for a request, whatever else the machine does."""
    program = [
        sys.executable,
        str(BENCHMARKS / "instructions.py"),
        "part4",
        "--kind",
        "keep-alive",
        "--requests",
        "200",
    ]
    run = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    counted = int(re.search(r"part4 +([\d,]+)$", run.stdout, re.MULTILINE)[1].replace(",", ""))
    assert 5_000 < counted < 100_000, run.stdout


@pytest.mark.parametrize(
    "words, culprit",
    [
        (["--only", "nosuch"], "nosuch is no contender"),
        (["--workloads", "nosuch"], "nosuch is no workload"),
        (["--proxy", "nosuch"], "--proxy wants NAME="),
        (["--against", "nosuch"], "There is no rsp.py in nosuch"),
    ],
)
def test_a_name_that_does_not_exist_is_one_clear_line(words, culprit):
    """The line names the culprit, and the choices."""
    run = subprocess.run([*BENCH, *words], capture_output=True, text=True, timeout=30)
    assert run.returncode == 1 and run.stderr.startswith(culprit) and len(run.stderr.splitlines()) == 1, run.stderr

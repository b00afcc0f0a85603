"""The benchmark runs, and counts only right answers; how fast anything is, no test asks."""
import json
import shlex
import subprocess
import sys

import pytest
from harness import ARGUMENTS, ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from bench import table  # noqa: E402
from contenders import missing_tools  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

BENCH = [sys.executable, str(BENCHMARKS / "bench.py"), "--quick", "--rounds", "1"]


def test_the_page_shows_the_run_that_was_saved():
    """The table in the benchmark's README is the one that its results.json makes."""
    results = json.loads((BENCHMARKS / "results" / "results.json").read_text())
    shown = table(results["summary"], results["wrong"], WORKLOADS)
    assert shown in (BENCHMARKS / "README.md").read_text(), (
        f"tests/benchmarks/README.md shows another run than results/results.json. Hint: paste this:\n{shown}"
    )


@pytest.fixture
def tools():
    """Skip when a load generator or a server is missing, and say which package has it."""
    if missing := missing_tools():
        pytest.skip("these tools are missing: " + "; ".join(missing))


def run_bench(*words):
    """Run the benchmark; return what it prints."""
    run = subprocess.run([*BENCH, *words], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_every_workload_gives_a_figure_for_each_contender_that_can_do_it(tools, tmp_path):
    """Table, JSON and picture come out, with positive figures."""
    output = run_bench("--only", "direct,part4,nginx", "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["wrong"] == {name: {} for name in ("connections", "keep-alive", "bulk", "upload", "idle")}
    for workload, rows in results["summary"].items():
        assert list(rows) == ["direct", "part4", "nginx"], workload
        for name, row in rows.items():
            assert row["milliseconds" if workload == "idle" else "median"] > 0, (workload, name)
            assert f"  {name} " in output
    assert results["summary"]["connections"]["nginx"]["to nginx"] == 1
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_a_contender_that_loses_bytes_does_not_count(tools, tmp_path):
    """Part 3 is fast because it throws bytes away: no figure for that."""
    run_bench("--only", "part3,part4", "--workloads", "bulk", "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["summary"]["bulk"]) == ["part4"]
    assert "bytes arrived" in results["wrong"]["bulk"]["part3"]


def test_any_program_can_be_compared(tools, tmp_path):
    """A contender of one's own comes with --proxy NAME=COMMAND."""
    command = shlex.join([sys.executable, f"{ROOT}/part1_single/rsp.py", *ARGUMENTS])
    words = ["--only", "haproxy,asyncio,mine", "--proxy", f"mine={command}", "--workloads", "connections"]
    run_bench(*words, "--output", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["summary"]["connections"]) == ["haproxy", "asyncio", "mine"]
    assert results["summary"]["connections"]["mine"]["median"] > 0

# Thin: each target makes .venv itself when it is not there. Another Python: make run PYTHON=python3.12
PYTHON ?= python3
VENV = .venv/bin/python
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)
PIP_INSTALL = $(VENV) -m pip install --quiet --disable-pip-version-check

.PHONY: run live book hosts ready test notebooks bench clean

run: .venv/ready-to-run
	@$(VENV) tests/demo/one_site.py config.lua

hosts: .venv/ready-to-hosts
	@$(VENV) tests/demo/many_sites.py

ready: .venv/ready-to-test
	@echo "Ready: tests, exercises and notebooks have all they need. Now type: source .venv/bin/activate"

live: .venv/ready-to-live
	@$(VENV) tests/live/live.py $(PART) $(if $(BESIDE),--beside $(BESIDE)) $(if $(SCENE),--scene $(SCENE)) $(if $(LIVE_PORT),--port $(LIVE_PORT))

book: .venv/ready-to-book
	@$(VENV) -m sphinx -q -W --keep-going -b html -c book -d book/_build/doctrees . book/_build/html
	@echo "Open book/_build/html/book/index.html"

test: .venv/ready-to-test
	$(VENV) -m pytest tests -n 4 --dist worksteal

notebooks: .venv/ready-to-test
	"$(VENV)" -m jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(AS_ROOT) $(JUPYTER)

bench: .venv/ready-to-bench
	@$(VENV) tests/benchmarks/bench.py $(if $(QUICK),--quick,--output tests/benchmarks/results) $(BENCH)

clean:
	rm -rf .venv
	rm -rf book/_build
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "rsp needs Python 3.10 or newer as $(PYTHON). Install it, or name another: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "rsp needs Python's venv module. Install it; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/ready-to-run: requirements.txt .venv/made
	@echo "Installing lupa into .venv ..."
	@$(PIP_INSTALL) "$$(grep '^lupa' requirements.txt)"
	@touch $@

.venv/ready-to-hosts: requirements.txt .venv/made
	@echo "Installing lupa, httptools, hiredis, redis, tornado and trustme into .venv ..."
	@$(PIP_INSTALL) $$(grep -E '^(lupa|httptools|hiredis|redis|tornado|trustme)>' requirements.txt)
	@touch $@ .venv/ready-to-run

.venv/ready-to-live: requirements.txt .venv/made
	@echo "Installing lupa, tornado and what the peers need into .venv ..."
	@$(PIP_INSTALL) $$(grep -E '^(lupa|tornado|hiredis|psutil|redis|requests|trustme)>' requirements.txt)
	@touch $@ .venv/ready-to-run

.venv/ready-to-book: book/requirements.txt .venv/made
	@echo "Installing Sphinx and what the book needs into .venv ..."
	@$(PIP_INSTALL) -r book/requirements.txt
	@touch $@

.venv/ready-to-bench: .venv/ready-to-test
	@$(PIP_INSTALL) uvloop proxy.py
	@touch $@

.venv/ready-to-test: requirements.txt .venv/made
	@echo "Installing what the tests need into .venv; the first time, this takes a minute or two ..."
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@ .venv/ready-to-run .venv/ready-to-live .venv/ready-to-hosts

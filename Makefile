# What CI runs, you run: `make run` shows the main job, `make test` checks and tests everything.

PYTHON ?= python3
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fuseboard/target
VENV := .venv
BIN := $(VENV)/bin
PEERS := .peers
RUST := Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml) $(wildcard crates/*/src/*.rs)
SDKS := $(shell find guest/c guest/go guest/rust guest/zig -name target -prune -o -type f -print)
PACKAGE := pyproject.toml $(SDKS) $(shell find python/fuseboard -name __pycache__ -prune -o -type f -print)
CHECKED := python tests tools examples benchmarks

.PHONY: run test check wheel guests conformance bench guard fuzz soak format clean prerequisites prerequisites-of-tests servers
.DELETE_ON_ERROR:

run: $(VENV)/installed  ## set everything up and show the main job
	@$(BIN)/python examples/cms/main.py

test: prerequisites-of-tests servers check $(VENV)/installed $(PEERS)/installed guests  ## set everything up, check and test
	@echo "→ Rust tests"
	@cargo test --release --locked --quiet --package fuseboard-core --package fuseboard-fuzz
	@cargo build --release --locked --quiet --package fuseboard-fuzz --bin smith  # random modules for the hostile corpus
	@sh tools/fuzz.sh 6
	@echo "→ Python tests, against the installed wheel"
	@$(BIN)/python -m pytest
	@$(MAKE) --no-print-directory guard
	@echo "✓ everything passed"

check: $(VENV)/installed $(VENV)/developing  ## formatting, lints, types, stubs, generated references
	@echo "→ Rust: format, clippy"
	@cargo fmt --all --check
	@cargo clippy --release --locked --quiet --all-targets -- -D warnings
	@echo "→ Python: format, lint, types, stub of the core"
	@$(BIN)/ruff format --check --quiet $(CHECKED)
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest fuseboard._core --concise --mypy-config-file pyproject.toml
	@echo "→ docs: references against the code"
	@$(BIN)/python tools/write_reference.py --check

wheel: $(VENV)/wheel  ## build the wheel into dist/

guests: $(VENV)/installed $(VENV)/developing  ## compile the guests of the conformance suite and the plugins in Rust and Go, by the network where needed
	@echo "→ guests in Rust, Go, C, C++ and Zig, kept in the user's cache"
	@$(BIN)/python tools/guests.py

conformance: guests  ## print which scenario holds for which SDK
	@PYTHONPATH=tests $(BIN)/python -m conformance $(SCENARIOS)

bench: $(PEERS)/installed  ## measure beside the peers: one table, and benchmarks/last.json
	@$(PEERS)/bin/python benchmarks/bench.py $(BENCH)

guard: $(PEERS)/installed  ## fail where a ratio to a peer has grown by a third
	@echo "→ ratios to the peers, against the baseline"
	@$(PEERS)/bin/python benchmarks/bench.py --guard

fuzz: prerequisites-of-tests  ## fuzz what reads a stranger's bytes, FUZZ_SECONDS a target
	@sh tools/fuzz.sh $(or $(FUZZ_SECONDS),30)

soak: $(VENV)/installed $(VENV)/developing  ## the long runs: a million invocations, faults in all backends, crowds, siblings, cancellations, reloads
	@$(BIN)/python benchmarks/soak.py

format: $(VENV)/developing  ## rewrite sources in the house format
	@cargo fmt --all
	@$(BIN)/ruff format --quiet $(CHECKED)
	@$(BIN)/python tools/write_reference.py

clean:  ## remove what was built here; the compiled engine stays in the user's cache
	rm -rf $(VENV) $(PEERS) dist

prerequisites:
	@sh tools/prerequisites.sh $(PYTHON)

servers:
	@sh tools/servers.sh

prerequisites-of-tests:
	@sh tools/prerequisites.sh $(PYTHON) test

$(VENV)/created: | prerequisites
	@echo "→ a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/maturin: $(VENV)/created
	@$(BIN)/python -m pip install --quiet "maturin>=1.9,<2"
	@touch $@

$(VENV)/wheel: $(VENV)/maturin $(RUST) $(PACKAGE)
	@echo "→ the wheel (the engine takes some minutes the first time, then it stays in $(CARGO_TARGET_DIR))"
	@rm -rf dist
	@touch crates/*/src/lib.rs  # another checkout may have built its own into the same target directory, later
	@$(BIN)/maturin build --quiet --release --locked --out dist --interpreter $(BIN)/python
	@touch $@

$(VENV)/installed: $(VENV)/wheel
	@$(BIN)/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	@$(BIN)/python -m pip install --quiet --find-links dist fuseboard
	@touch $@

$(VENV)/developing: $(VENV)/created pyproject.toml
	@echo "→ tools for checks and tests"
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(PEERS)/installed: $(VENV)/wheel pyproject.toml
	@echo "→ the peers, in an environment of their own: Extism, wasmtime, pluggy"
	@test -d $(PEERS) || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	@$(PEERS)/bin/python -m pip install --quiet --group bench
	@$(PEERS)/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	@$(PEERS)/bin/python -m pip install --quiet --find-links dist fuseboard
	@touch $@

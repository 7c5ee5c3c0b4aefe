# Each target first brings .venv to what it needs, from the locks in requirements/; nothing else has to be set up by hand.
#   PYTHON=python3.12   the interpreter that .venv is made with (3.11 or newer, for the tests up to 3.13; default: python3)
#   ARGS="-k ssh"       more arguments for pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-torch lies fuzz lint lock clean
export PYTHON

# What .venv has to match. A .venv whose interpreter has gone loses its stamps, and so is made anew.
ID := $(shell .venv/bin/python -c 'import pip' 2>/dev/null || rm -f .venv/.core-* .venv/.test-*; \
	{ pwd; echo "$(PYTHON)"; cat pyproject.toml requirements/*.txt make/bootstrap.sh; } | cksum | cut -d' ' -f1)
CORE := .venv/.core-$(ID)
TEST := .venv/.test-$(ID)
TORCH := .venv-torch/.ready-$(ID)
FUZZ := .venv-fuzz/.ready-$(ID)
LIES := 100000
SECONDS := 60
TORCH_PIP := .venv/bin/python -m pip --python .venv-torch/bin/python install -qq --disable-pip-version-check --no-input
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

EXTRAS := dask mqtt otel postgresql tensorflow web
UV   := uv==0.13.9
LOCK := --python .venv/bin/python --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
	--annotation-style line --custom-compile-command "make lock" --overrides requirements/overrides.txt

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: $(CORE) ## build, push, serve and measure a model, all on this machine
	@$(IN_VENV) bash examples/digits/demo.sh

# Tests start hundreds of interpreters: what one has compiled is kept for the next, whatever the shell says.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: $(TEST) ## every test but the slow ones
	@$(IN_VENV) python -m pytest -m "not slow" --numprocesses 2 --dist loadfile $(ARGS)

test-slow: $(TEST) ## the slow tests
	@$(IN_VENV) python -m pytest -m slow $(ARGS)

test-torch: $(TORCH) ## the tests that need PyTorch, in an environment of their own
	@.venv-torch/bin/pytest -m torch $$(grep -rl --include='test_*.py' '^@torch' tests) $(ARGS)

lies: $(TEST) ## 100,000 lies to a server (LIES=N), beside a crowd and somebody honest
	@EDGEKIT_LIES=$(LIES) $(IN_VENV) python -m pytest -m slow -s tests/runtime/server/test_lies.py $(ARGS)

fuzz: $(FUZZ) ## atheris on the parsers for a minute (SECONDS=N), in an environment of its own
	@PYTHONPATH=.:runtime .venv-fuzz/bin/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

lint: $(TEST) ## ruff, mypy, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

lock: $(CORE) ## bring the locks up to pyproject.toml; newest versions with ARGS=--upgrade
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && export UV_CACHE_DIR="$$tmp/cache" && \
	.venv/bin/python -m pip install -q --target "$$tmp" $(UV) && \
	lock() { "$$tmp/bin/uv" pip compile -q $(LOCK) $(ARGS) pyproject.toml requirements/core.in "$$@"; } && \
	lock $(EXTRAS:%=--extra %) --group test --group lint requirements/test.in -o requirements/test.txt && \
	lock -c requirements/test.txt -o requirements/core.txt && \
	"$$tmp/bin/uv" pip compile -q $(LOCK) $(ARGS) pyproject.toml --extra flower -o requirements/flower.txt && \
	"$$tmp/bin/uv" pip compile -q $(LOCK) $(ARGS) -c requirements/test.txt requirements/fuzz.in -o requirements/fuzz.txt && \
	"$$tmp/bin/uv" pip compile -q $(LOCK:3.11=3.12) --no-deps $(ARGS) requirements/onnx2tf.in -o edgekit/passes/onnx2tf.txt

clean: ## remove .venv and everything else that was built
	rm -rf .venv .venv-torch .venv-fuzz build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(CORE):
	@sh make/bootstrap.sh core $(ID)

$(TEST):
	@sh make/bootstrap.sh test $(ID)

# torch has another hash on each index that holds it (CPU, CUDA), so its lock has versions only.
$(TORCH): $(CORE)
	@rm -rf .venv-torch && .venv/bin/python -m venv --without-pip .venv-torch
	@$(TORCH_PIP) --only-binary :all: --no-deps --require-hashes -r requirements/core.txt
	@$(TORCH_PIP) --only-binary :all: -r requirements/torch.txt
	@$(TORCH_PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(FUZZ): $(CORE)
	@rm -rf .venv-fuzz && .venv/bin/python -m venv --without-pip .venv-fuzz
	@.venv/bin/python -m pip --python .venv-fuzz/bin/python install -qq --disable-pip-version-check --no-input --no-deps \
		--only-binary :all: --require-hashes -r requirements/fuzz.txt
	@touch $@

# Every target sets up .venv by itself when that has not been done; nothing is done twice.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
JOBS ?= 2
CODE := nbs tests benchmarks docs .jupyter setup.py

EXTRAS := notebooks explain register flir export video hub watch docs dev

.PHONY: demo test check lint soak gpu reproduce studies lab docs readme install cluster lock audit
.DELETE_ON_ERROR:

demo: install
	$(BIN)/aggan reproduce demo --jobs $(JOBS)

reproduce: install   # all tables and figures
	$(BIN)/aggan reproduce --jobs $(JOBS)

studies: install   # beyond tables and figures
	$(BIN)/aggan reproduce verdicts people teachers --jobs $(JOBS)

test: lint   # what notebooks and tests leave in the temporary folder goes at the end
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; TMPDIR=$$scratch $(MAKE) check

check:
	$(BIN)/nbdev_export
	git diff --exit-code -- aggan
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_outputs.py --numprocesses 2 -m "not soak"
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" timeout 1500 $(BIN)/nbdev_test --n_workers 2 \
	    --file_re "$$($(BIN)/python tests/test_outputs.py)"   # those that are not executed above
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/test_outputs.py \
	    --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not soak"

lint: install
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

soak: install   # the slow proofs: saved outputs of the notebooks that take longer than 20 seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --numprocesses 2 -m soak

gpu: install   # within ten minutes: what works on this GPU, and where time and memory go
	$(BIN)/aggan bench first_gpu --output figures/benchmarks

lab: install
	JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(BIN)/jupyter lab nbs/index.ipynb --ServerApp.root_dir=. \
	    $(if $(filter 0,$(shell id -u)),--allow-root)   # Jupyter asks root to say so

docs: install
	$(BIN)/python docs/build.py

readme: install
	$(BIN)/python docs/readme.py

cluster: install .venv-cluster/installed   # Snakemake, see cluster/README.md

install: $(INSTALLED)

$(INSTALLED): settings.ini setup.py requirements-lock.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements-lock.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	if git rev-parse --git-dir > /dev/null 2>&1; then $(BIN)/nbdev_install_hooks; fi
	touch $@

.venv-cluster/installed: settings.ini
	$(PYTHON) -m venv .venv-cluster
	sed -n 's/^cluster_requirements = //p' settings.ini | xargs .venv-cluster/bin/pip install --quiet
	touch $@

lock: install .venv-audit/installed   # after a change of settings.ini or constraints.txt
	.venv-audit/bin/uv pip compile setup.py $(EXTRAS:%=--extra %) --constraint constraints.txt \
	    --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	    --custom-compile-command 'make lock' --output-file requirements-lock.txt
	$(BIN)/python docs/licences.py

audit: .venv-audit/installed   # known vulnerabilities of what is pinned
	.venv-audit/bin/pip-audit --require-hashes --disable-pip --requirement requirements-lock.txt

.venv-audit/installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet uv pip-audit
	touch $@

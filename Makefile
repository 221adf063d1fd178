# make demo, make test: each does all its own set-up. See README.md.

VENV := .venv
PYTHON := $(VENV)/bin/python
DEMO := runs/demo

.PHONY: install demo test test-models fuzz lint lock clean

install: $(VENV)/installed

# A name on the path is not enough: version managers put stand-ins there that only say they are not installed.
$(VENV)/installed: requirements.lock setup.py
	@found=""; \
	for python in python3 python3.11 python3.10 python3.9; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.9, 3.10 or 3.11 with its venv module is needed (TensorFlow 2.15 runs on no newer one); none of python3, python3.11, python3.10, python3.9 is one." >&2; \
	  exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Installed: $(VENV)/bin/python runs the programs in scripts/."

demo: install
	rm -rf $(DEMO)
	$(PYTHON) scripts/convert.py --input=synthetic:4000 --output=$(DEMO)/tfrecords
	$(PYTHON) scripts/train.py --config=configs/demo.py --data=$(DEMO)/tfrecords --workdir=$(DEMO)/run
	$(PYTHON) scripts/evaluate.py --workdir=$(DEMO)/run --data=$(DEMO)/tfrecords --split=test --output=$(DEMO)/evaluation
	@echo "Made: $(DEMO)/evaluation/eval.json and $(DEMO)/evaluation/confusion_matrix.png, from the run in $(DEMO)/run"

test: install
	$(PYTHON) -m pytest --numprocesses 2 --dist loadscope
	@echo "The whole suite is in tests/, which mirrors fer/."

# Every backbone of the registry: builds it, trains it a step, saves and loads it. Takes minutes and 8 GiB.
test-models: install
	$(PYTHON) -m pytest -m slow tests/models

# A hundred thousand mutated tables, and archives, votes and pictures, against a reader of plain Python.
fuzz: install
	$(PYTHON) -m pytest -m slow tests/data/test_fuzz.py

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# Resolves what setup.py admits for Python 3.9 to 3.11; needs uv.
lock:
	uv pip compile setup.py --extra test --universal --python-version 3.9 --generate-hashes --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) $(DEMO)

# Every target installs what it needs. See README.md and CONTRIBUTING.md.

VENV := .venv
NEXT := .venv-next
PYTHON = $(VENV)/bin/python
DEMO := runs/demo

.PHONY: install install-next demo demo-next test test-next test-all test-models test-hosts test-s3 fuzz soak gpu-check audit colab dist lint lock clean

install: $(VENV)/installed
install-next: $(NEXT)/installed

# The same commands in the environment of TensorFlow 2.21.
demo test: install
demo-next test-next: install-next
demo-next test-next: VENV = $(NEXT)

# Each candidate is executed: version managers put stubs on the path that only print an error.
$(VENV)/installed: requirements.lock setup.py pyproject.toml
	@found=""; \
	for python in python3 python3.11 python3.10; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.10 or 3.11 with its venv module is needed (TensorFlow 2.15 runs on no newer one); none of python3, python3.11, python3.10 is one. With Python 3.12 or 3.13, use TensorFlow 2.21: make install-next, demo-next, test-next." >&2; \
	  exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$($$found --version)"; \
	$$found -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Installed: $(VENV)/bin/python runs the programs in scripts/."

demo demo-next:
	rm -rf $(DEMO)
	$(PYTHON) scripts/convert.py --input=synthetic:2500 --output=$(DEMO)/tfrecords
	$(PYTHON) scripts/train.py --config=configs/demo.py --data=$(DEMO)/tfrecords --workdir=$(DEMO)/run
	$(PYTHON) scripts/evaluate.py --workdir=$(DEMO)/run --data=$(DEMO)/tfrecords --split=test --output=$(DEMO)/evaluation
	@printf '%s\n' '' 'The demo made these files; open the first in a browser:' \
	  '  $(DEMO)/evaluation/report.html           the report, with every misclassified face' \
	  '  $(DEMO)/evaluation/confusion_matrix.png  the confusion matrix of the test split' \
	  '  $(DEMO)/evaluation/eval.json             accuracy, macro F1, calibration and confidence intervals' \
	  '  $(DEMO)/run/curves.png                   loss and accuracy by epoch' \
	  '  $(DEMO)/tfrecords/audit.html             duplicates and class balance of the data' \
	  'Training in TensorBoard: $(VENV)/bin/tensorboard --logdir=$(DEMO)/run'

test test-next:
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal
	@echo "make test-all runs this on TensorFlow 2.15 and 2.21, and the extended tests."

# The default tier, the extended tier (tests of many CPU seconds: whole runs, kills and resumes, S3, several processes,
# every config, large backbones, sweeps, exports, browser pages), then the default tier on TensorFlow 2.21, if Python
# 3.12 or 3.13 is installed.
test-all: test
	$(PYTHON) -m pytest --numprocesses 2 --dist worksteal -m "extended and not slow"
	@if .ci/next-python; then $(MAKE) test-next; else echo "TensorFlow 2.21 was not tested."; fi

# All model tests: builds every backbone, trains it for a step, saves and loads it. Takes minutes and 8 GiB.
test-models: install
	$(PYTHON) -m pytest -m "" tests/models

# 100,000 mutated tables, archives, votes and images, compared with a reader in plain Python.
fuzz: install
	$(PYTHON) -m pytest -m slow tests/convert/test_fuzz.py

# Queries known advisories for all pinned packages; fails if a package cannot be queried.
audit:
	python3 -m venv --clear .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	for lock in requirements.lock requirements-next.lock; do .venv-audit/bin/pip-audit --strict --disable-pip -r $$lock || exit 1; done
	rm -rf .venv-audit

lint: install
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) .ci/style.py

# A run that is killed at twenty random moments must end with the same bits as an uninterrupted one. Then rounds of
# conversion, training with kills and evaluation must keep memory and open files constant.
soak: install
	FER_SOAK_KILLS=20 $(PYTHON) -m pytest -s -m slow tests/train/test_soak.py
	$(PYTHON) -m tests.soak --minutes=30

# Two hosts in separate network namespaces, one of which loses its connection; needs root.
test-hosts: install
	@ip netns add fer-probe && ip netns del fer-probe || { echo "No network namespaces here: needs root and ip."; exit 1; }
	$(PYTHON) -m pytest -m slow tests/train/distributed/test_multi_host.py tests/train/distributed/test_multi_worker.py

# Whole runs on an S3 server, and whole sweeps.
test-s3: install
	$(PYTHON) -m pytest -m slow tests/test_s3.py tests/sweep tests/benchmark

gpu-check: install
	$(PYTHON) scripts/gpu_check.py --output=runs/gpu_check.json

# Builds wheel and sdist, checks their content and installs the wheel into an empty environment with the lock file.
dist: install
	rm -rf dist build
	$(PYTHON) -c "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"
	$(PYTHON) -m pytest -m slow tests/test_release.py
	.ci/smoke $(PYTHON) requirements.lock

# TensorFlow 2.21, for Python 3.12 and 3.13.
$(NEXT)/installed: requirements-next.lock setup.py pyproject.toml
	found=$$(.ci/next-python) && $$found -m venv --clear $(NEXT)
	$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-next.lock
	$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "Installed: $(NEXT)/bin/python runs the programs in scripts/."

colab: $(NEXT)/installed
	mkdir -p runs/colab && cp docs/colab.ipynb runs/colab
	cd runs/colab && PATH=$(CURDIR)/$(NEXT)/bin:$$PATH EPOCHS=1 jupyter execute colab.ipynb --output=executed.ipynb --timeout=-1

# Resolves the ranges of setup.py into both lock files; needs uv.
lock:
	echo ".[test] ; python_version < '3.12'" | uv pip compile - --universal --python-version 3.10 --no-emit-package fer-trainer \
	  --generate-hashes --no-header --no-annotate -o requirements.lock
	uv pip compile setup.py --extra test --extra notebook --python-version 3.12 --universal \
	  --generate-hashes --no-header --no-annotate -o requirements-next.lock

clean:
	rm -rf $(VENV) $(NEXT) $(DEMO)

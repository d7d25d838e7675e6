# make run                             the default configuration
# make run CONFIG=config/siemens.yaml  another one
# make test, make coverage, make lint, make clean
# make docs                            the documentation site, offline, in build/site
# make pretrained                      the weights of the learned prior, trained from nothing: hours
# make tutorials                       the notebooks run on results/, their outputs kept in docs/tutorials for the site
# make test-ptychodus                  released ptychodus trains, reconstructs and shows with our engine: minutes
# make paper, make paper-miniature     the four figures of config/paper.yaml, or the same from small scans
# make test-fuzz                       3,000 damaged and forged files given to every command that reads them: minutes
# make test-kill                       the miniature killed at 20 random moments
# make test-conda                      an environment made by `snakemake --sdm conda`, from a channel on this machine
# make test-slurm                      the workflow on a real SLURM, started on this machine (root, Debian)
# make test-storage                    scans and results in an object store, started on this machine

PYTHON ?= python3
CONFIG ?= config/config.yaml
CORES ?= all
ARGS ?=

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# measurements that are on this machine already; without it they are downloaded where a config names them
export PTYCHOFLOW_DATA ?= $(abspath $(wildcard ../shared/data))

# released ptychodus, on top of the packages of VENV: an environment of its own, which no other test sees
PTYCHODUS := $(VENV)/ptychodus
PTYCHODUS_PIP := $(PTYCHODUS)/bin/python -m pip install --quiet --constraint envs/constraints.txt \
    --constraint envs/ptychodus.txt

.PHONY: pretrained run paper paper-miniature docs tutorials test test-conda test-fuzz test-kill test-ptychodus test-slurm test-storage coverage lint clean

run: $(VENV)/ready
	snakemake --cores $(CORES) --rerun-incomplete --configfile $(CONFIG) $(ARGS)

paper: $(VENV)/ready
	snakemake --cores $(CORES) --rerun-incomplete --configfile config/paper.yaml $(ARGS) -- paper

paper-miniature: $(VENV)/ready
	snakemake --cores $(CORES) --rerun-incomplete --configfile config/paper.yaml config/overlays/paper-miniature.yaml \
	    --directory results/miniature $(ARGS) -- paper

test: $(VENV)/ready-to-test $(PTYCHODUS)/ready
	OMP_NUM_THREADS=1 pytest -n auto --dist loadgroup $(ARGS)

test-ptychodus: $(VENV)/ready-to-test $(PTYCHODUS)/ready-to-run
	OMP_NUM_THREADS=1 pytest -m 'ptychodus or ptychodus_app' $(ARGS)

test-fuzz: $(VENV)/ready-to-test
	OMP_NUM_THREADS=1 python -m tests.fuzz.campaign --runs 3000 $(ARGS)

test-kill: $(VENV)/ready-to-test
	PTYCHOFLOW_KILLS=20 OMP_NUM_THREADS=1 pytest -v -s tests/workflow/test_killing.py $(ARGS)

test-conda: $(VENV)/ready-to-test
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[conda]'
	PTYCHOFLOW_CONDA=1 OMP_NUM_THREADS=1 pytest -v tests/conda $(ARGS)

test-slurm: $(VENV)/ready-to-test
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[slurm]'
	PTYCHOFLOW_SLURM=1 OMP_NUM_THREADS=1 pytest -v tests/cluster $(ARGS)

test-storage: $(VENV)/ready-to-test
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[storage,kubernetes]' 'moto[s3]'
	PTYCHOFLOW_STORAGE=1 OMP_NUM_THREADS=1 pytest -v tests/storage $(ARGS)

pretrained: $(VENV)/ready
	ptychoflow pretrain src/ptychoflow/networks/weights/object_prior.safetensors $(ARGS)

docs: $(VENV)/ready-to-document
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

tutorials: $(VENV)/ready-to-test
	python docs/hooks/execute_tutorials.py results $(CONFIG) docs/tutorials

coverage: $(VENV)/ready-to-test
	OMP_NUM_THREADS=1 pytest -n auto --dist loadgroup --cov --cov-report term:skip-covered $(ARGS)

lint: $(VENV)/ready-to-test
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	lint-imports
	snakemake --lint

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/ready: envs/constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 11); \
	    sys.exit(f"ptychoflow needs Python 3.11 or newer, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12" if old else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[all,lint,test]'
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --no-deps ptychi  # our peer; it asks for torchvision
	@touch $@

$(VENV)/ready-to-document: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --constraint envs/constraints.txt --editable '.[docs]'
	@touch $@

$(PTYCHODUS)/ready: envs/ptychodus.txt $(VENV)/ready-to-test
	$(VENV)/bin/python -m venv --clear $(PTYCHODUS)
	@$(VENV)/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > $$(echo $(PTYCHODUS)/lib/python3*/site-packages)/beneath.pth
	$(PTYCHODUS_PIP) --no-deps ptychodus
	@touch $@

$(PTYCHODUS)/ready-to-run: $(PTYCHODUS)/ready
	$(PTYCHODUS_PIP) colorcet httpx watchdog 'pydantic-ai-slim[openai]' PyQt5
	$(PTYCHODUS)/bin/python -m pip download --quiet --no-deps --no-binary ptychodus --dest $(PTYCHODUS)/source \
	    --constraint envs/ptychodus.txt ptychodus
	for version in 1.2 1.5.1 1.6.0; do $(PTYCHODUS)/bin/python -m pip install --quiet --no-deps \
	    --target $(PTYCHODUS)/older/$$version ptychodus==$$version || exit 1; done
	@touch $@

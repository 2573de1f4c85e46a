# Every target that needs Python makes its own .venv first, so `git clone` and `make demo` are all that is asked of anybody.
# PYTHON=python3.12 picks the interpreter, VENV=elsewhere the environment, ARGS='-k drift' goes on to pytest or the demo.
VENV  ?= .venv
TORCH ?= 2.13.0
bin   := $(VENV)/bin
stamp := $(VENV)/.installed
# Unsloth declares a whole GPU stack; beside ours it runs without it, on the CPU too, so it goes in alone and its adapter is tested for real. So does the pretrained LM.
beside = $(foreach r,$(shell sed -n 's/^unsloth_requirements *= *//p; s/^pretrained_requirements *= *//p' settings.ini),'$(r)')
# Some packages are compiled at installation, by build scripts that call plain `python`: pip runs with the environment's first on the PATH.
# Bytecode is written when a module is first used: to compile every file of the environment would take a quarter of the installation.
pip    = PATH="$(abspath $(bin)):$$PATH" $(bin)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
PY     = $(or $(PYTHON),$(shell for p in python3 python3.13 python3.12 python3.11 python; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done))

.DEFAULT_GOAL := help
.PHONY: help demo test setup export check outputs docs constraints clean

help: ## print this list
	@echo 'make TARGET, where TARGET is one of:'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 15

demo: $(stamp) ## see guidance at work: trains a pocket model, no GPU and no download of models
	@$(bin)/guided-opd demo $(ARGS)

test: $(stamp) ## run every test and every notebook on the CPU
	@echo 'Running the tests and the notebooks, on up to four cores at once: up to twenty minutes on two.'
	@$(bin)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup $(ARGS)

setup: $(stamp) ## create .venv with the package (editable) and all its tools; the other targets do it by themselves

export: $(stamp) ## write guided_opd/ and README.md from nbs/, and strip the notebooks of what does not belong in git
	@$(bin)/nbdev-export
	@$(bin)/jupyter nbconvert --log-level WARN --to markdown --output-dir . --output README nbs/index.ipynb
	@$(bin)/nbdev-clean
	@if ls tutorials/*.ipynb >/dev/null 2>&1; then $(bin)/nbdev-clean --fname tutorials; fi

check: export ## export, and fail unless git then sees nothing new in nbs, tutorials and guided_opd
	@changed=$$(git status --porcelain -- nbs tutorials guided_opd README.md) || exit 1; \
	if [ -n "$$changed" ]; then echo "$$changed"; echo 'The notebooks and the package differ from what is committed: look at the files above, then commit them.' >&2; exit 1; fi
	@echo 'Notebooks are clean, and the package is what they export.'

outputs: $(stamp) ## run the notebooks and keep in them what their cells show (ARGS=nbs/12_scoring.ipynb for one); needs chromium
	@$(bin)/python docs/outputs.py $(ARGS)
	@$(MAKE) --no-print-directory export

docs: $(VENV)/.docs ## build the documentation site into _docs/
	@NO_MKDOCS_2_WARNING=1 $(bin)/python -m mkdocs build --strict --quiet
	@echo 'Built: open _docs/index.html'

clean: ## remove what builds and tests leave behind (.venv and runs/ stay: delete those yourself)
	rm -rf build dist *.egg-info _docs _proc .cache .pytest_cache .hypothesis unsloth_compiled_cache
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

constraints: ## write constraints.txt anew from a fresh environment; run it with the oldest Python, PYTHON=python3.11 (TORCH=2.13.0 picks torch)
	@[ -n "$(PY)" ] || { echo 'guided_opd needs Python 3.11 or newer, and none was found: install one, or name it: make constraints PYTHON=/path/to/python3' >&2; exit 1; }
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	echo 'Resolving the whole development environment in a throw-away venv: about 5 minutes.' && \
	$(PY) -m venv "$$tmp/venv" && export PATH="$$tmp/venv/bin:$$PATH" && \
	"$$tmp/venv/bin/python" -m pip install --quiet 'torch==$(TORCH)' -e '.[dev,docs]' && \
	"$$tmp/venv/bin/python" -m pip install --quiet --no-deps $(beside) && \
	"$$tmp/venv/bin/python" -m pip freeze --exclude-editable > "$$tmp/frozen" && \
	{ sed -n '/^#/!q;p' constraints.txt && \
	  sed -e 's/+[a-z0-9.]*$$//' "$$tmp/frozen" | grep -viE '^(#|-e|nvidia|cuda-|triton)| @ ' | LC_ALL=C sort -f; } > "$$tmp/new" && \
	cp "$$tmp/new" constraints.txt && echo "Wrote constraints.txt: $$(grep -c == constraints.txt) packages. Now: make test"

$(stamp): settings.ini setup.py constraints.txt
	@[ -n "$(PY)" ] || { echo 'guided_opd needs Python 3.11 or newer, and none was found: install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'guided_opd needs Python 3.11 or newer, and $(PY) is not that: name another one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PY) --version): some seconds."
	@$(PY) -m venv $(VENV) || { echo 'Python could not make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Installing guided_opd and its tools into $(VENV), at the versions in constraints.txt: 2 to 10 minutes, once. torch is the biggest part.'
	@$(pip) -e '.[dev]'
	@$(pip) --no-deps $(beside)
	@touch $@

$(VENV)/.docs: $(stamp)
	@echo 'Installing the tools that build the site: some seconds, once.'
	@$(pip) -e '.[docs]'
	@touch $@

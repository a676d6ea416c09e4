# `make` alone lists what there is. CARGO_TARGET_DIR is honoured everywhere.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
PYTHON ?= python3
TARGET_DIR := $(abspath $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target))
export CARGO_TARGET_DIR := $(TARGET_DIR)

GUEST_TARGET := wasm32-wasip2
GUESTS := $(TARGET_DIR)/$(GUEST_TARGET)/guest
TOOLS := $(TARGET_DIR)/tools
LANGUAGES := $(TARGET_DIR)/languages
LANGUAGE_PYTHON := $(TOOLS)/languages-python
LANGUAGE_NODE := $(TOOLS)/languages-node
CONTRACT := $(wildcard wit/0.1.0/*.wit)
QUICKSTART := examples/quickstart

# Filters are what users get; guests are what the tests need besides.
FILTER_PACKAGES := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard filters/*/Cargo.toml)))
GUEST_PACKAGES := $(addprefix guest-,$(notdir $(patsubst %/Cargo.toml,%,$(wildcard tests/guests/*/Cargo.toml))))
JS_COMPILER := guest-sdk/js/compiler/Cargo.toml
JS_CARGO := CARGO_TARGET_DIR=$(TARGET_DIR)/js-compiler $(CARGO)
BUILD_GUEST := $(CARGO) build --locked --profile guest --target $(GUEST_TARGET)
# Built alone: in one build with others they would all get the features of its regular expressions, and grow.
LARGE_PACKAGES := json-schema
SMALL_PACKAGES := $(filter-out $(LARGE_PACKAGES),$(FILTER_PACKAGES))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build filters ## Build all and start the quickstart: ws://127.0.0.1:8080/echo, admin on 127.0.0.1:9901
	@cp filters/compiled/redact.wasm $(QUICKSTART)/filters.d/20-redact.wasm
	@exec $(TARGET_DIR)/release/wsgate run --config $(QUICKSTART)/wsgate.toml

.PHONY: build
build: ## Build the gateway (release)
	$(CARGO) build --locked --release --bin wsgate

# A workspace of its own: its wasmtime is another one. `--prepare` adds QuickJS as machine code, which takes seconds.
.PHONY: js-compiler
js-compiler: ## Build wsgate-js beside the gateway: it makes filters of .js files
	$(JS_CARGO) build --locked --release --manifest-path $(JS_COMPILER)
	@mkdir -p $(TARGET_DIR)/release
	@if [ $(TARGET_DIR)/js-compiler/release/wsgate-js -nt $(TARGET_DIR)/release/wsgate-js ]; then \
		$(TARGET_DIR)/js-compiler/release/wsgate-js --prepare > $(TARGET_DIR)/release/wsgate-js.part; \
		chmod +x $(TARGET_DIR)/release/wsgate-js.part; \
		mv $(TARGET_DIR)/release/wsgate-js.part $(TARGET_DIR)/release/wsgate-js; fi

.PHONY: filters
filters: wasm-target ## Build the filters into filters/compiled/
	$(BUILD_GUEST) $(addprefix -p ,$(LARGE_PACKAGES))
	$(BUILD_GUEST) $(addprefix -p ,$(SMALL_PACKAGES))
	@mkdir -p filters/compiled
	@for name in $(FILTER_PACKAGES); do cp $(GUESTS)/$${name//-/_}.wasm filters/compiled/$$name.wasm.part; \
		mv filters/compiled/$$name.wasm.part filters/compiled/$$name.wasm; done
	@echo "filters/compiled: $(FILTER_PACKAGES)"

# The second build replaces stamp.wasm by its first version again, so that both lie there side by side.
.PHONY: guests
guests: wasm-target languages ## Build the guests that the tests load
	$(BUILD_GUEST) -p stamp --features stamp/v2
	@cp $(GUESTS)/stamp.wasm $(GUESTS)/stamp-v2.wasm
	$(BUILD_GUEST) $(addprefix -p ,$(LARGE_PACKAGES))
	$(BUILD_GUEST) $(addprefix -p ,$(SMALL_PACKAGES) $(GUEST_PACKAGES))

# One filter in four languages; the one in Rust is among the guests.
.PHONY: languages
languages: $(addprefix $(LANGUAGES)/four-,js.wasm python.wasm c.wasm) ## Build the guests in JavaScript, Python and C

# A folder of its own, as a user's project has: the SDK resolves its contract and its tools from where it lies.
$(LANGUAGES)/four-js.wasm: $(wildcard guest-sdk/js/*.*js*) $(wildcard tests/languages/four-js/*) $(CONTRACT) | $(LANGUAGE_NODE)/installed
	@rm -rf $(LANGUAGES)/js && mkdir -p $(LANGUAGES)/js/vendor/wsgate $(LANGUAGES)/js/node_modules
	@cp guest-sdk/js/*.* $(LANGUAGES)/js/vendor/wsgate && cp -r wit $(LANGUAGES)/js/vendor/wit
	@cp tests/languages/four-js/* $(LANGUAGES)/js
	@ln -s ../vendor/wsgate $(LANGUAGES)/js/node_modules/wsgate
	@ln -s $(LANGUAGE_NODE)/node_modules/componentize-qjs $(LANGUAGES)/js/node_modules/componentize-qjs
	cd $(LANGUAGES)/js && node vendor/wsgate/build.mjs filter.js -o $@

$(LANGUAGES)/four-python.wasm: $(wildcard guest-sdk/python/wsgate/*.py) $(wildcard tests/languages/four-python/*) $(CONTRACT) | $(LANGUAGE_PYTHON)/installed
	@rm -rf $(LANGUAGES)/python && mkdir -p $(LANGUAGES)/python
	@cp -r guest-sdk/python/wsgate tests/languages/four-python/app.py $(LANGUAGES)/python
	cd $(LANGUAGES)/python && $(LANGUAGE_PYTHON)/bin/componentize-py -q -d $(CURDIR)/wit/0.1.0 -w filter componentize app -o $@.part
	@mv $@.part $@

$(LANGUAGES)/four-c.wasm: $(wildcard guest-sdk/c/*.*) $(wildcard guest-sdk/c/generated/*) $(wildcard tests/languages/four-c/*) $(CONTRACT) | $(LANGUAGE_PYTHON)/installed $(LANGUAGE_NODE)/installed
	@mkdir -p $(@D)
	ZIG_GLOBAL_CACHE_DIR=$(TOOLS)/zig ZIG_LOCAL_CACHE_DIR=$(TOOLS)/zig $(LANGUAGE_PYTHON)/bin/python -m ziglang cc --target=wasm32-wasi \
		-mexec-model=reactor -O2 -s -Wall -Wextra -Werror -Iguest-sdk/c -o $(LANGUAGES)/four-c.core \
		$(wildcard guest-sdk/c/*.c) guest-sdk/c/generated/bindings.c tests/languages/four-c/filter.c
	node guest-sdk/c/component.mjs $(LANGUAGES)/four-c.core -o $@ --wit wit/0.1.0 --modules $(LANGUAGE_NODE)

.PHONY: bindings
bindings: $(LANGUAGE_PYTHON)/installed ## Generate the bindings in guest-sdk/python and guest-sdk/c anew (C: needs wit-bindgen-cli 0.61.1)
	@rm -rf $(LANGUAGES)/bindings
	$(LANGUAGE_PYTHON)/bin/componentize-py -q -d wit/0.1.0 -w filter-http bindings $(LANGUAGES)/bindings
	@rm -rf guest-sdk/python/bindings && mkdir guest-sdk/python/bindings
	@cp -r $(LANGUAGES)/bindings/wit_world $(LANGUAGES)/bindings/componentize_py_types.py guest-sdk/python/bindings
	wit-bindgen c wit/0.1.0 --world filter-http --rename-world bindings --out-dir guest-sdk/c/generated
	@rm guest-sdk/c/generated/*.o

.PHONY: wasm-target
wasm-target: # rustup where it is; without it the target has to be there already
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(GUEST_TARGET)" || rustup target add $(GUEST_TARGET)

.PHONY: test
test: lint guests js-compiler test-tools fuzz-check ## Run everything: lint, guests, third-party peers, every test
	$(JS_CARGO) test --locked --release --manifest-path $(JS_COMPILER)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --release --workspace; \
		$(CARGO) test --locked --release --workspace --doc; \
	else \
		echo "cargo-nextest is not installed: one test at a time with cargo test"; \
		$(CARGO) test --locked --release --workspace -- --test-threads=1; \
	fi

.PHONY: lint
lint: ## Check the format, clippy, and the dependencies where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path $(JS_COMPILER)
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: deny.toml was not checked (cargo install --locked cargo-deny)"; fi

.PHONY: audit
audit: ## Check the advisories too (needs cargo-deny and the network)
	$(CARGO) deny check

# mosquitto and Chromium come with the system: `apt-get install mosquitto chromium` (.ci/run does it).
.PHONY: test-tools
test-tools: $(TOOLS)/python/installed $(TOOLS)/node/installed ## Install the third-party peers: Python websockets, kosoku, npm ws, mqtt, …

$(TOOLS)/python/installed: tests/support/python/requirements.txt
	@rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(TOOLS)/node/installed: tests/support/node/package.json
	@rm -rf $(@D) && mkdir -p $(@D)
	@cp $< $(@D)
	npm install --prefix $(@D) --no-package-lock --no-audit --no-fund --silent
	@touch $@

$(LANGUAGE_PYTHON)/installed: tests/support/languages/requirements.txt
	@rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(LANGUAGE_NODE)/installed: tests/support/languages/package.json
	@rm -rf $(@D) && mkdir -p $(@D)
	@cp $< $(@D)
	npm install --prefix $(@D) --no-package-lock --no-audit --no-fund --silent
	@touch $@

# A workspace of its own, without the engine; see fuzz/src/lib.rs.
.PHONY: fuzz
fuzz: ## Run every fuzz target for two minutes (needs cargo-fuzz and a nightly toolchain); docs/security.md
	fuzz/run.sh

.PHONY: fuzz-check
fuzz-check: ## Check what is fuzzed on its seeds and what is near to them
	CARGO_TARGET_DIR=$(TARGET_DIR)/fuzz-check $(CARGO) test --locked --release --quiet --manifest-path fuzz/Cargo.toml --test seeds

.PHONY: bench
bench: ## Measure this gateway beside its peers; docs/performance.md says how to read it
	benches/run.sh

.PHONY: docs
docs: ## Build the API documentation of the gateway and the SDK
	$(CARGO) doc --locked --no-deps -p wsgate -p wsgate-sdk

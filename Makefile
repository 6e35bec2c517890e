# The one entry point: CI calls the same targets as a laptop. tools/setup.sh installs what a target needs and the machine lacks.

.DEFAULT_GOAL := help
.PHONY: help setup demo test interop check bench chaos

# `make chaos PROFILE=dev` reuses what `make test` has compiled.
PROFILE ?= release
N ?= 500
SEED ?= 1

# Finds or installs a Redis or Valkey server, and tells the tests and `payrelay dev` where it is.
redis = PAYRELAY_REDIS_SERVER="$$(tools/setup.sh redis)" && export PAYRELAY_REDIS_SERVER
tool = PATH="$(CURDIR)/target/tools/bin:$$PATH"
# Most tests wait for others more than they compute.
threads = $$((2 * $$(getconf _NPROCESSORS_ONLN)))
minute = $$(command -v timeout >/dev/null && echo timeout 60)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

setup: ## install what is missing: a Redis or Valkey server, a browser, the tools of `check`, OpenSSL's headers for `interop`
	@tools/setup.sh all

# The dev profile: on a new machine the dependencies alone take 95 s instead of 150 s (two cores), `make test` uses the same build,
# and the demo waits for simulated banks, not for the processor.
demo: ## payouts from request to verified webhook, on this machine (STAY=1 keeps it running)
	@tools/setup.sh build
	@$(if $(REDIS_URL),,$(redis) && )cargo run --locked --bin payrelay -- dev --demo $(if $(STAY),--stay) $(ARGS)

test: ## every test, against a real Redis (cargo-nextest where installed)
	@tools/setup.sh build
	cargo test --locked --workspace --no-fail-fast --doc
	@tools/setup.sh browser
	@$(redis) && if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --locked --workspace --no-fail-fast --test-threads $(threads) $(ARGS); \
	  else set -x; RUST_TEST_THREADS=$(threads) cargo test --locked --workspace --no-fail-fast --tests $(ARGS); fi
	@$(MAKE) --no-print-directory interop

# A workspace of its own, see tests/interop/Cargo.toml.
interop: ## our signatures against the provider's own library, where OpenSSL's headers are installed or can be
	@tools/setup.sh interop
	@if pkg-config --exists openssl 2>/dev/null; then \
	    $(redis) && set -x && cd tests/interop && CARGO_TARGET_DIR=$(CURDIR)/target cargo test --locked --no-fail-fast --tests; \
	  else echo "interop: NOT RUN, OpenSSL's headers are not installed"; fi

check: ## format, lints, docs, dependencies, scripts
	@tools/setup.sh lint
	cargo fmt --all --check
	cargo fmt --manifest-path tests/interop/Cargo.toml --check
	cargo metadata --locked --format-version 1 --manifest-path tests/interop/Cargo.toml >/dev/null
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps --document-private-items
	$(tool) cargo deny --locked check --hide-inclusion-graph licenses bans sources
	@if $(tool) $(minute) cargo deny fetch db >/dev/null 2>&1; then set -x; $(tool) cargo deny --locked check advisories; \
	  else echo 'advisories: NOT CHECKED, the RustSec database cannot be reached from here'; fi
	$(tool) cargo machete
	@if command -v shellcheck >/dev/null; then set -x; shellcheck tools/*.sh .ci/run; else echo 'shellcheck: NOT CHECKED, not installed'; fi
	@if docker compose version >/dev/null 2>&1; then set -x; docker compose --file compose.yaml --profile '*' config --quiet; \
	  elif python3 -c 'import yaml' 2>/dev/null; then set -x; \
	    python3 -c 'import sys, yaml; [yaml.safe_load(open(name)) for name in sys.argv[1:]]' compose.yaml config/*.yaml; \
	  else echo 'compose.yaml: NOT CHECKED, neither docker compose nor python3 with yaml is installed'; fi
	@if command -v hadolint >/dev/null; then set -x; hadolint Dockerfile; else echo 'Dockerfile: NOT CHECKED, hadolint is not installed'; fi

bench: ## measure this machine, with a release build; writes target/bench.json
	@tools/setup.sh build
	@$(redis) && set -x && cargo run --locked --release --bin payrelay -- bench $(ARGS)

chaos: ## kill workers and Redis at random under load (N=500 SEED=1); writes target/chaos.json
	@tools/setup.sh build
	@$(redis) && set -x && cargo run --locked --profile $(PROFILE) --bin payrelay -- chaos --payouts $(N) --seed $(SEED) $(ARGS)

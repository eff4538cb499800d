.DEFAULT_GOAL := help
.PHONY: help run demo test lint audit fmt bench fuzz soak deps clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf 'make %-8s %s\n' "$$name" "$$text"; done

run: ## Start the server; without a configuration it makes itself a development app
	cargo run --release

demo: ## Show the messenger: server, a stand-in of the carrier, and a portal with two users
	examples/portal/build
	@node examples/portal/demo/preflight.mjs
	cargo build --release
	@node examples/portal/demo.mjs

test: deps ## Run every test, with the real clients and a browser; installs what is missing
	RUST_TEST_THREADS=4 cargo test -- --skip messaging::crash
	# By themselves: they take all of a small machine.
	RUST_TEST_THREADS=1 cargo test --test protocol messaging::crash

lint: ## Check the format and the lints as CI does
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

audit: ## Check licences, duplicates and known faults of the dependencies (needs cargo-deny and github.com)
	@.ci/audit

fmt: ## Format the sources
	cargo fmt

bench: ## Measure throughput, latency and memory
	cargo bench --bench broadcaster

fuzz: ## Fuzz all readers of outside input, for 16 minutes in all or MINUTES=30 (needs cargo-fuzz and a C++ compiler)
	@protocol-tests/fuzz/run $$(($(or $(MINUTES),16) * 60 / $$(ls protocol-tests/fuzz/fuzz_targets | wc -l)))

soak: ## Run honest clients beside all attackers for 10 minutes or MINUTES=60; fails if one lost anything
	cargo build --release
	python3 benches/clients/soak.py --minutes $(or $(MINUTES),10)

deps: ## Install what the tests need and this machine lacks
	@protocol-tests/install

clean: ## Remove everything that was built or installed here
	cargo clean
	rm -rf protocol-tests/node_modules protocol-tests/.venv examples/portal/node_modules examples/portal/dist

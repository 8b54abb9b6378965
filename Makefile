# What one can do here. Each target is one line; what it does stands in hack/ (see hack/README.md).
# ARGS reaches the command: make test ARGS='--test mysql cutover::', make demo ARGS=--help
SHELL := bash
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help build demo test bench fmt lint crds parts shell clean-parts

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the programs, optimised, into target/release
	hack/build $(ARGS)

demo: ## watch a migration on a real MySQL server under load, from nothing
	hack/demo $(ARGS)

test: ## everything CI runs: formatting, lints, drift, and every suite against real parts
	hack/test $(ARGS)

bench: ## measure copying, applying and the cut-over against a real server
	hack/bench $(ARGS)

fmt: ## format the code
	hack/with-tools test cargo fmt

lint: ## the checks of `make test` without the tests
	hack/test --checks

crds: ## generate the CRDs in crds/ from the types, and copy them into the chart and config/
	hack/with-tools build cargo run --locked --quiet -- crd --output-dir crds
	hack/sync-crds

parts: ## fetch MySQL, MariaDB and the control plane into the cache now (otherwise at first use)
	hack/with-tools demo hack/kube install
	hack/mysql install
	hack/mariadb install 10.11
	hack/mariadb install 11.8

shell: ## a shell with a running MySQL server, replica and control plane
	hack/with-tools demo hack/with-parts --mysql --replica --kube --shell

clean-parts: ## remove the cached parts (hack/README.md lists their folders)
	hack/clean-parts

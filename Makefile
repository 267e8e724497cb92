# The front door. `make help` lists the commands.

# One name for all images; `make images IMAGE_REPO=registry.example.org/me VERSION=v1` makes others.
IMAGE_REPO ?= quay.io/metallb-rs
VERSION    ?= v0.1.0
# The version that an upgrade through OLM to this one starts from.
REPLACES   ?= v0.0.9
export IMAGE_REPO VERSION

# The local cluster: how many nodes, and which one when there are several.
NODES ?= 3
NAME  ?= lab
# Pool of the demo on a cluster of your own: make demo KUBECONFIG=~/.kube/config POOL=192.0.2.10-192.0.2.20
POOL  ?=

# What is built and reused between clones and runs: Kubernetes binaries by version, Rust objects.
METALLB_LAB_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/metallb-lab
CARGO_TARGET_DIR  ?= $(METALLB_LAB_CACHE)/cargo
export METALLB_LAB_CACHE CARGO_TARGET_DIR

CARGO  := cargo
HOST   := $(shell rustc -vV | sed -n 's/^host: //p')
IMAGES := target/images
LAB    := $(CARGO) run --locked -q -p metallb-e2e --bin lab --
ALLOC_LAB := $(CARGO) run --locked -q -p metallb-alloc-tests --bin alloc-lab --

.DEFAULT_GOAL := help
.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The main job
.PHONY: demo
demo: ## build everything, start a cluster, serve a page to a LAN client (or on your own cluster: KUBECONFIG=… POOL=a-b)
# Somebody who exported the kubeconfig of a local cluster still means that cluster.
ifneq ($(filter-out /run/metallb-lab/%,$(KUBECONFIG)),)
	@$(LAB) demo --kubeconfig "$(KUBECONFIG)" --pool "$(POOL)"
else
	@$(LAB) up --name $(NAME) --nodes $(NODES)
	@$(MAKE) --no-print-directory images
	@$(LAB) demo --name $(NAME)
endif

.PHONY: demo-olm
demo-olm: ## the same through OLM, on a cluster of its own: catalog, Subscription, one MetalLB resource (make cluster-down NAME=demo-olm)
	@$(LAB) up --name demo-olm --nodes $(NODES)
	@$(MAKE) --no-print-directory images
	@$(LAB) olm demo --name demo-olm

##@ Tests
.PHONY: check
check: ## format, lints, unit tests, simulation; no root, no cluster
	@scripts/lane format     $(CARGO) fmt --all --check
	@scripts/lane lints      $(CARGO) clippy --locked -q --workspace --all-targets -- -D warnings
	@scripts/lane unit       $(CARGO) test --locked -q --workspace
	@scripts/lane generated  $(CARGO) run --locked -q -p xtask -- check

.PHONY: test
test: ## what CI runs: check, then every scenario on a local cluster (root; installs what it needs)
	@$(LAB) prerequisites
	@$(MAKE) --no-print-directory check
	@scripts/lane images   $(MAKE) --no-print-directory images
	@scripts/lane programs $(LAB) prepare --scenarios
	@scripts/lane charts   $(CARGO) test --locked -q -p metallb-charts -- --include-ignored
	@scripts/lane network  $(CARGO) test --locked -q -p metallb-net -p metallb-e2e -- --ignored
	@scripts/side-by-side \
	  other-installs '$(MAKE) --no-print-directory test-allocator && $(LAB) e2e --whole bare --name test-bare' \
	  cluster        '$(LAB) e2e --whole installed --name test'
	@scripts/lane summary

.PHONY: test-allocator
test-allocator: ## the allocator as processes on real API servers: beside Go MetalLB's, replicas that fail, a duplicate
	@scripts/lane differential  $(ALLOC_LAB) differential --seeds 2 --steps 40
	@scripts/lane replicas      $(ALLOC_LAB) ha --seconds 30
	@scripts/lane duplicate     $(ALLOC_LAB) duplicate

.PHONY: test-long
test-long: images ## before an issue is called done: more seeds, long scenarios, Helm 4, reproducible images, licences and bans
	@scripts/lane seeds         env SIM_SEEDS=10000 $(CARGO) test --locked -q -p metallb-sim
	@scripts/lane allocations   env ALLOC_SEEDS=2000 $(CARGO) test --locked -q -p metallb-alloc --test replicas
	@scripts/lane differential  $(ALLOC_LAB) differential --seeds 30
	@scripts/lane replicas      $(ALLOC_LAB) ha --seeds 10 --seconds 60
	@scripts/lane charts-helm4  env HELM_GENERATION=4 $(CARGO) test --locked -q -p metallb-charts -- --include-ignored
	@scripts/lane helm4         env HELM_GENERATION=4 $(LAB) e2e --name test-long helm s2
	@scripts/lane cluster-long  $(LAB) e2e --whole long --name test-long
	@scripts/lane quiet-long    env QUIET_SECONDS=600 $(LAB) e2e --name test-long quiet
	@scripts/lane olm-tools     scripts/olm-check "$(IMAGES)" "$(HOST)" $(REPLACES)
	@scripts/lane reproducible  scripts/reproducible
	@scripts/lane deny          $(MAKE) --no-print-directory deny

.PHONY: e2e
e2e: images ## one scenario on the local cluster: make e2e SCENARIO=name (without a name: lists them)
	@$(LAB) e2e --name $(NAME) $(SCENARIO)

.PHONY: differential bench-alloc bench-l2
differential: ## random objects on two API servers, our allocator beside Go MetalLB's controller (DIFF_SEEDS=3 DIFF_FIRST=1)
	@$(ALLOC_LAB) differential
bench-alloc: images ## 10,000 services, ours beside Go MetalLB's controller: a table and target/bench/alloc.json (BENCH_SERVICES=10000)
	@$(ALLOC_LAB) bench
bench-l2: images ## layer 2 under cuts, kills and moves, ours beside Go MetalLB: a table and target/bench/l2.json (L2_ROUNDS=50 L2_PEER_ROUNDS=50 L2_PARTS=link-cut,…)
	@$(LAB) bench-l2 --name bench-l2

.PHONY: olm-tools
olm-tools: images ## bundles and catalogs judged by operator-sdk and opm; a warning fails
	@scripts/olm-check "$(IMAGES)" "$(HOST)" $(REPLACES)

.PHONY: deny
deny: ## licences, bans and sources of all crates (installs cargo-deny when it is missing)
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny@0.20.2
	$(CARGO) fetch --locked
	$(CARGO) deny --offline check bans licenses sources

##@ The local cluster
.PHONY: cluster-up cluster-down kubeconfig
cluster-up: ## a real Kubernetes in network namespaces (NODES=3 NAME=lab)
	@$(LAB) up --name $(NAME) --nodes $(NODES)
cluster-down: ## remove it
	@$(LAB) down --name $(NAME)
kubeconfig: ## print the path of its kubeconfig: export KUBECONFIG=$$(make -s kubeconfig)
	@$(LAB) kubeconfig --name $(NAME)

##@ Generated things
.PHONY: images
images: ## operator, controller and speaker as OCI archives under target/images (static, FROM scratch)
	@scripts/images "$(IMAGES)" "$(HOST)"

.PHONY: crds manifests bundle
crds: ## config/crd from the Rust types
	$(CARGO) run --locked -q -p xtask -- crds
manifests: ## all that is generated: CRDs, manifests, bundle, the generated parts of the Helm chart
	$(CARGO) run --locked -q -p xtask -- all
	@$(MAKE) --no-print-directory chart
.PHONY: chart
chart: ## the generated parts of config/charts/metallb, from config/crd and config/manifests
	$(CARGO) run --locked -q -p metallb-charts -- write
bundle: ## the OLM bundle, images by tag
	$(CARGO) run --locked -q -p xtask -- bundle
.PHONY: bundle-pinned
bundle-pinned: images ## the OLM bundle with the digests of the images just built, and its image: target/bundle/$(VERSION)
	@REPLACES="$(REPLACES)" scripts/bundle "$(IMAGES)" "target/bundle/$(VERSION)"

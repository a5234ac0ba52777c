# One target per thing a developer or CI does. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOLANGCI_LINT ?= go tool -modfile=tools/go.mod golangci-lint
CONTAINER ?= $(firstword $(notdir $(shell command -v docker podman)))

# Where goroutines meet; `make flake PACKAGES=./internal/hub COUNT=500` narrows it.
PACKAGES ?= ./internal/...
COUNT ?= 100
FUZZTIME ?= 30s
SOAKTIME ?= 10m

# Browser tests that make test-more runs, and not make test.
E2E_MORE = $(patsubst %,web/e2e/%.test.mjs,bundles recipes examples django integrate layout)

SCRIPTS = .ci/run examples/start $(wildcard scripts/* deploy/redis/*.sh deploy/systemd/*.sh)

##@ Every day

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check
check: lint tidy build test test-more ## All that CI runs

.PHONY: demo
demo: ## Try it in a browser: two organizations, no Redis or configuration needed
	go run ./cmd/gateway demo

.PHONY: run
run: ## A development gateway with a Redis of its own, on 127.0.0.1:8080
	@scripts/deps run >/dev/null || scripts/deps run
	scripts/dev

.PHONY: build
build: ## The static binary, bin/gateway
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/gateway ./cmd/gateway

.PHONY: client
client: web/node_modules/.package-lock.json ## Build the browser client: web/client/dist, and the file of the demo's pages
	node web/client/build.js
	node web/client/build.js --page

.PHONY: fmt
fmt: ## Format all Go code
	$(GOLANGCI_LINT) fmt

##@ Tests

# Without inlining and debug information, compiling and linking take about half the time. Tests that build
# the gateway inherit the flags, so that they share what is compiled. See docs/decisions/0078.
TESTS_WITH_GO = unit e2e e2e-more builds-test tls-test clients-test extend-test stacks-test chart-test
$(TESTS_WITH_GO): export GOFLAGS = $(shell go env GOFLAGS) '-gcflags=orgcast/...=-l -dwarf=false' '-ldflags=-s -w'

.PHONY: test
test: deps unit client-test e2e ## All tests: Go with the race detector, the browser client, browsers
	@echo "test: all passed"

.PHONY: test-more
test-more: models builds-test tls-test clients-test python-test e2e-more extend-test stacks-test release-test site-test chart-test ## What CI runs beyond test: the models of docs/models, other builds of the gateway, the gateway over TLS, the clients in all languages, more browser tests, a gateway with an extension, the examples of other frameworks, a release, the site of the documentation, the Helm chart
	@echo "test-more: all passed"

.PHONY: models
models: ## Check the models of docs/models with spin, and that each breaks without any of its guards
	@scripts/deps models
	scripts/models

.PHONY: builds-test
builds-test: ## Other builds of the gateway: with the consumer that docs/consumers.md adds, and without the demo
	@scripts/deps test
	go test -race -vet=off -tags=more -count=1 -timeout=20m -run='^(TestEleventhConsumer|TestNoDemoInABuildWithoutIt)$$' ./cmd/gateway

.PHONY: tls-test
tls-test: ## The tests of the gateway's room again, with all its nodes listening for TLS
	@scripts/deps test
	go test -race -shuffle=on -timeout=30m -parallel=4 ./internal/gateway -args -tls

.PHONY: clients-test
clients-test: ## Tests of the clients for back ends, in every language, against a gateway and a Redis
	@scripts/deps clients
	go test -race -count=1 -timeout=20m ./clients -args -languages=go,node,php,ruby

.PHONY: python-test
python-test: ## Types and tests of the Python package, installed from its wheel
	@scripts/deps python
	scripts/python-test

.PHONY: test-django
test-django: ## The Django part of the Python package with Django 4.2 and 5.2, which it downloads (Debian only; not part of CI)
	@scripts/deps python
	scripts/test-django

.PHONY: extend-test
extend-test: ## Tests of examples/extend: a gateway with an extension, built as a module of its own
	@scripts/deps extend
	cd examples/extend && go vet ./... && go test -race -count=1 -timeout=10m ./...

.PHONY: stacks-test
stacks-test: ## Browser test of the examples for Express, Rails and Laravel
	@scripts/deps stacks
	@$(MAKE) --no-print-directory web/node_modules/.package-lock.json examples/express/node_modules/.package-lock.json
	STACKS=express,rails,laravel node --test web/e2e/stacks/stacks.test.mjs

.PHONY: site
site: web/node_modules/.package-lock.json ## The site of the documentation: site/index.html, to be served from any path
	@scripts/deps site
	/usr/bin/mkdocs --quiet build --strict

.PHONY: site-test
site-test: site ## Build the site and open it in Chromium: links, search, narrow windows, no file from elsewhere
	node --test web/site/site.test.mjs

.PHONY: test-nextjs
test-nextjs: ## The same test of the example for Next.js, which is built before, and of the component in docs/client.md; not part of CI
	@scripts/deps nextjs
	@$(MAKE) --no-print-directory web/node_modules/.package-lock.json examples/nextjs/node_modules/.package-lock.json
	NEXT_TELEMETRY_DISABLED=1 npm run build --prefix examples/nextjs
	STACKS=nextjs node --test web/e2e/stacks/stacks.test.mjs web/e2e/stacks/live.test.mjs

.PHONY: test-monitoring
test-monitoring: ## Alerts of a running Prometheus, provoked at a running gateway: no Redis, a gap, a full node (some 40 seconds; not part of CI)
	@scripts/deps monitoring
	go vet -tags=provoke ./deploy
	go test -tags=provoke -count=1 -v -run=TestProvokedAlerts ./deploy

.PHONY: chart-test
chart-test: ## Tests of the Helm chart, without a cluster: helm, kubectl-validate, kube-score and the gateway with its settings
	@scripts/deps chart
	go build -o bin/kube/ ./cmd/gateway
	cd tools/kubescore && go build -o ../../bin/kube/ github.com/zegl/kube-score/cmd/kube-score
	cd tools/kubevalidate && go build -o ../../bin/kube/ sigs.k8s.io/kubectl-validate
	cd tools/kube && go build -o ../../bin/kube/ helm.sh/helm/v3/cmd/helm
	cd tools/kube && go test -count=1 -timeout=20m .

.PHONY: test-kube
test-kube: ## Pods of the Helm chart in podman, replaced one after the other while a browser receives events (root; not part of CI)
	@scripts/deps test-kube
	@$(MAKE) --no-print-directory web/node_modules/.package-lock.json
	scripts/test-kube

.PHONY: deps
deps: ## Show what the tests need; install it (as root on Debian or Ubuntu) or say how
	@scripts/deps test

# The linters include vet.
.PHONY: unit
unit: web/node_modules/.package-lock.json ## Go tests only, with the race detector, in random order
	GORACE=atexit_sleep_ms=50 go test -race -vet=off -shuffle=on -timeout=30m -p=3 -parallel=4 $$(go list ./... | grep -v /internal/pubsub/roster$$)
	go test -vet=off -shuffle=on ./internal/pubsub/roster # a state machine in one goroutine: nothing that could race, and much to compute
	go test -vet=off -run=^TestNoAllocation ./internal/gateway # what the race detector would distort

.PHONY: client-test
client-test: web/node_modules/.package-lock.json ## Tests of the browser client only, with fake time: vitest
	web/node_modules/.bin/vitest run --root web/client

.PHONY: e2e
e2e: web/node_modules/.package-lock.json ## Browser tests only: Chromium, and Firefox for the client and the console, against a gateway that they start
	go build -o bin/e2e/gateway ./cmd/gateway
	GATEWAY_BINARY=$(CURDIR)/bin/e2e/gateway node --test --test-concurrency=2 $(filter-out $(E2E_MORE),$(wildcard web/e2e/*.test.mjs))

.PHONY: e2e-more
e2e-more: web/node_modules/.package-lock.json ## More browser tests: bundles, the recipes of docs/client.md, the examples, docs/integrate.md, Django, how pages look
	@scripts/deps test
	go build -o bin/e2e/gateway ./cmd/gateway
	GATEWAY_BINARY=$(CURDIR)/bin/e2e/gateway node --test --test-concurrency=2 $(E2E_MORE)

# npm writes this file last, so it dates the installation.
web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	npm ci --prefix web --ignore-scripts --no-audit --no-fund
	@touch $@

examples/%/node_modules/.package-lock.json: examples/%/package.json examples/%/package-lock.json
	npm ci --prefix examples/$* --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: flake
flake: ## Go tests COUNT times over (100), to find the ones that fail now and then
	go test -race -shuffle=on -count=$(COUNT) -timeout=2h $(PACKAGES)

.PHONY: cover
cover: ## Coverage of all packages by all Go tests: coverage/index.html
	@mkdir -p coverage
	go test -coverpkg=./... -coverprofile=coverage/cover.out ./...
	go tool cover -html=coverage/cover.out -o coverage/index.html
	@go tool cover -func=coverage/cover.out | tail -n 1

.PHONY: fuzz
fuzz: ## Every Fuzz function for FUZZTIME (30s)
	scripts/fuzz $(FUZZTIME)

##@ Speed

.PHONY: bench
bench: ## Benchmarks, ten times each, into bench/new.txt
	@mkdir -p bench
	go test -run '^$$' -bench . -benchmem -count=10 ./... | tee bench/new.txt

.PHONY: bench-diff
bench-diff: ## Compare bench/new.txt with bench/base.txt
	go tool -modfile=tools/go.mod benchstat bench/base.txt bench/new.txt

.PHONY: soak
soak: ## Connections, publishers and a Redis for SOAKTIME (10m); fails if anything was lost
	@scripts/deps run >/dev/null || scripts/deps run
	scripts/soak $(SOAKTIME)

.PHONY: soak-tls
soak-tls: ## 10,000 connections over TLS for SOAKTIME (10m), with new certificates; fails if memory grows
	@scripts/deps run >/dev/null || scripts/deps run
	scripts/soak tls $(SOAKTIME)

.PHONY: measure
measure: build ## Measure all that docs/performance.md shows, and write it there (half an hour); MEASURE=--quick for a look
	@scripts/deps measure
	go run ./internal/measure $(MEASURE)

.PHONY: measure-beside
measure-beside: ## What another organization costs a quiet one that reads a long history, connects 100,000 times, or has 10,000 users come and go (10 minutes, 4 GB of memory)
	@scripts/deps run >/dev/null || scripts/deps run
	go test -count=1 -timeout=30m -v -run TestBeside ./internal/faults -args -beside

.PHONY: soak-faults
soak-faults: ## 1,000 connections while Redis, Sentinel, gateways and networks fail in turn, and 5,000 through a deploy (some seven minutes)
	@scripts/deps run >/dev/null || scripts/deps run
	go test -count=1 -timeout=20m -v ./internal/faults -args -full

.PHONY: soak-lease
soak-lease: ## How soon sockets end after a logout and the like, and 40 s without Redis (some ten minutes)
	@scripts/deps run >/dev/null || scripts/deps run
	scripts/soak-lease

##@ Before a merge

.PHONY: lint
lint: ## Go, types of the browser client, workflows, shell, YAML, spelling
	@scripts/deps lint
	@$(MAKE) --no-print-directory web/node_modules/.package-lock.json
	web/node_modules/.bin/tsc -p web/client/tsconfig.test.json
	$(GOLANGCI_LINT) fmt --diff
	$(GOLANGCI_LINT) run
	go tool -modfile=tools/actionlint/go.mod actionlint
	shellcheck $(SCRIPTS)
	yamllint --strict .
	codespell

.PHONY: tidy
tidy: ## Fail if go.mod or go.sum of any module is not tidy
	go mod tidy -diff
	cd tools && go mod tidy -diff
	cd tools/actionlint && go mod tidy -diff
	cd tools/release && go mod tidy -diff
	cd tools/kube && go mod tidy -diff
	cd tools/kubescore && go mod tidy -diff
	cd tools/kubevalidate && go mod tidy -diff
	cd tools/webhooks && go mod tidy -diff
	cd examples/extend && go mod tidy -diff

.PHONY: vuln
vuln: ## Known vulnerabilities in what we call (needs the network)
	go tool -modfile=tools/go.mod govulncheck ./...

.PHONY: image
image: ## The container image, orgcast/gateway:VERSION
	$(CONTAINER) build $(if $(filter podman,$(CONTAINER)),--format docker) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) \
	  --build-arg DATE=$(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null) -t orgcast/gateway:$(VERSION) .

.PHONY: release
release: ## Everything of a release, in dist/: archives, packages, image, Helm chart, SBOMs, checksums (make release VERSION=1.4.0)
	scripts/release $(VERSION)

.PHONY: release-test
release-test: ## Make a release, 0.0.0-test, and look at each part of it
	@scripts/deps release
	scripts/release 0.0.0-test
	cd tools/release && go vet ./... && go test -count=1 .

.PHONY: test-release
test-release: ## Install the deb of dist/ in a fresh Debian and run it there (root; not part of CI)
	@scripts/deps test-release
	scripts/test-release

.PHONY: test-upgrade
test-upgrade: web/node_modules/.package-lock.json ## The previous release and this tree on one Redis, gateways and browser clients; FROM=COMMIT names another (not part of CI)
	@scripts/deps run >/dev/null || scripts/deps run
	scripts/test-upgrade $(FROM)

.PHONY: image-test
image-test: ## Build the image, follow deploy/README.md with it, look whether it works (scripts/image-test sentinel, cluster: not part of CI)
	@scripts/deps image
	scripts/image-test

# Every tool comes from this repository's own files: Go tools from the modfiles
# in test/tools, Debian packages through `make setup`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

GO      ?= go
TEXT    ?= $(shell $(GO) env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt
TOOL     = $(GO) tool -modfile=test/tools/$(1).mod $(1)

# Where our own Go lives; build/ holds copies of modules for the tab.
SOURCES := cmd node market ledger sandbox transport proto browser test

# Packages that build for a browser; test/deps_test.go has the same list.
JS_PACKAGES := ./proto/... ./ledger ./ledger/store/indexeddb ./market ./sandbox ./transport ./node ./browser/wasm
GENERATED   := proto/edgenet.pb.go proto/api/api.pb.go proto/api/apiconnect/api.connect.go

.PHONY: check test bench demo proto browser package setup soak mutants fmt clean
.PHONY: lint check-proto edgenetd test-units test-browser test-processes

demo: edgenetd ## a local network of real daemons counts the words of a real text
	build/edgenetd devnet --input "$(TEXT)"

edgenetd:
	CGO_ENABLED=0 $(GO) build -o build/edgenetd ./cmd/edgenetd

test: setup check test-units test-browser test-processes ## everything that must hold

package: ## a Debian package with manual pages, completion and a systemd unit, into build/
	@v="$$(git describe --tags --always --dirty 2>/dev/null || echo devel)"; \
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$${v#v}" -o build/package/edgenetd ./cmd/edgenetd; \
	sh cmd/edgenetd/debian/build.sh build/package/edgenetd "$${v#v}" build

# Units run under the race detector, but for packages without a goroutine of
# their own, whose laws take hundreds of thousands of cases. The other group
# starts daemons and browsers, so its packages go one at a time.
PLAIN_PACKAGES   := ./ledger ./market ./proto ./sandbox/instrument ./node/identity ./test/sim
PROCESS_PACKAGES := ./cmd/... ./sandbox/enginetest/jsengine/... ./transport/webtransport/... ./test/...

test-units:
	$(GO) test -timeout 30m -count 1 $(PLAIN_PACKAGES)
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(PLAIN_PACKAGES) $(PROCESS_PACKAGES))")

# Random modules that every engine must agree on.
FUZZ_MODULES ?= 10000

test-processes:
	TEST_FUZZ_MODULES=$(FUZZ_MODULES) $(GO) test -p 1 -timeout 40m -count 1 $$($(GO) list $(PROCESS_PACKAGES) | grep -vxF "$$($(GO) list $(PLAIN_PACKAGES))")

# The whole package but for compressed copies, then pages in a real Chromium
# beside real daemons.
test-browser: edgenetd
	cd browser/ts && npm ci --silent --no-audit --no-fund && npm run --silent check && npm run --silent build -- --plain && npm test --silent
	cd test/browser && npm ci --silent --no-audit --no-fund && npm test --silent

check: lint check-proto ## what needs no test run
	$(GO) mod tidy -diff
	CGO_ENABLED=0 $(GO) build -o build/edgenetd ./cmd/edgenetd
	GOOS=js GOARCH=wasm $(GO) build $(JS_PACKAGES)
	$(GO) test -count 1 -run 'Import|Browser|Absent|Pure|PackageComment|TopLevel|GoMod|Words|Readme' ./test

lint:
	@unformatted="$$($(call TOOL,gofumpt) -l $(SOURCES))"; \
	if [ -n "$$unformatted" ]; then echo "run make fmt; not formatted:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(call TOOL,staticcheck) ./...
	GOOS=js GOARCH=wasm $(GO) vet $(JS_PACKAGES)

fmt:
	$(call TOOL,gofumpt) -w $(SOURCES)

proto: ## regenerate the committed protobuf and Connect code
	sh test/setup.sh protoc:protobuf-compiler
	@$(MAKE) --no-print-directory generate OUT=.

# Without protoc there is nothing to compare with; make proto installs it.
check-proto:
	@if command -v protoc >/dev/null; then \
		rm -rf build/_generated; mkdir -p build/_generated; \
		$(MAKE) --no-print-directory generate OUT=build/_generated; \
		for f in $(GENERATED); do \
			diff -q -I '^// .*protoc  *v' build/_generated/$$f $$f || { echo "run make proto: $$f is not what its schema generates"; exit 1; }; \
		done; \
		echo "generated code is up to date"; \
	else \
		echo "protoc is not installed: generated code not compared"; \
	fi

.PHONY: generate
generate:
	@$(GO) build -o build/bin/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	@protoc --plugin=build/bin/protoc-gen-go --go_out=$(OUT) --go_opt=module=edgenet.dev proto/edgenet.proto
	@protoc --plugin=build/bin/protoc-gen-go --plugin=build/bin/protoc-gen-connect-go -I proto/api \
		--go_out=$(OUT) --go_opt=module=edgenet.dev --connect-go_out=$(OUT) --connect-go_opt=module=edgenet.dev api.proto

bench: edgenetd browser ## measures; prints one table and writes build/bench.json
	cd test/browser && npm ci --silent --no-audit --no-fund
	$(GO) run ./test/bench -daemon build/edgenetd -out build/bench.json

browser: setup ## the node in a tab, its loader, Workers and example pages, into browser/dist
	cd browser/ts && npm ci --no-audit --no-fund && npm run --silent check && npm run --silent build

setup:
	@sh test/setup.sh

# For how long make soak attacks seven daemons, all attacks in turn.
HOSTILE_TOTAL ?= 1h

# With -race the tests build the daemons with it too, and fail when one reports
# a race.
soak: ## the kill tests ten times in a row (200 killed daemons of seven), all process tests under the race detector, an hour of attacks, pages in Chromium, a tab that works for half an hour
	$(GO) test -count 10 -failfast -timeout 90m -run 'Kill' ./test
	$(GO) test -race -count 1 -timeout 60m ./test ./cmd/...
	TEST_SIM_SEEDS=100:500 $(GO) test -count 1 -timeout 90m -run Simulation -v ./test/sim
	$(GO) run ./test/hostile -workers 5 -strict -total $(HOSTILE_TOTAL)
	$(MAKE) --no-print-directory edgenetd browser
	cd test/browser && npm ci --silent --no-audit --no-fund && npm test && TEST_TAB_MINUTES=30 npm run soak
	sh test/setup.sh firefox-esr:firefox-esr
	$(GO) test -tags soak -count 1 -timeout 30m -short -run Firefox ./sandbox/enginetest/jsengine

mutants: ## switches off one rule at a time and wants a named test to fail
	$(GO) run ./test/mutants

clean:
	rm -rf build browser/dist

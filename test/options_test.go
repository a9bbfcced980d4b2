package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Of each option, the test that fails when it is not connected, as file and
// name, or "not: " and why there is none. Keys of the daemon's configuration
// have a table of their own: a row "key" of it is named as key=row.
const keysOf = "cmd/edgenetd/effect_test.go"

var effectsOf = map[string]map[string]string{
	"node.Config": {
		"Dir":            "node/faults_test.go TestRestartGoesOn",
		"Network":        "node/faults_test.go TestBadConfig",
		"Invite":         "node/open_test.go TestOpen",
		"Key":            "node/faults_test.go TestBadConfig",
		"Keys":           "node/order_test.go TestOrderOutlivesARecovery",
		"Record":         "node/restore_test.go TestRestoredBackupDoesNotFork",
		"Log":            "node/activity_test.go TestActivityIsLogged",
		"Listen":         "key=listen",
		"Announce":       "key=announce",
		"Bootstrap":      "key=bootstrap",
		"Resolve":        "node/genesis_test.go TestRelaysAreAskedFor",
		"DHT":            "key=dht",
		"Reachability":   "key=reachability",
		"MDNS":           "key=mdns",
		"Relay":          "key=relay",
		"MapPorts":       "test/restart_linux_test.go TestNetworkSurvivesRestarts",
		"Bandwidth":      "key=limits.bandwidth",
		"Connections":    "key=limits.connections",
		"Worker":         "market/worker_test.go TestEveryFieldOfAWorkerHasItsEffect",
		"Executor":       "node/node_test.go TestJobIsVerifiedAndPaid",
		"Store":          "node/faults_test.go TestRestartGoesOn",
		"Overtime":       "node/witnesses_test.go TestPayerVanishes",
		"VoteTimeout":    "not: how soon a witness asks again; tests shorten it and hold with any value",
		"KeepEpochs":     "key=ledger.keep",
		"KeepJobs":       "key=state.keep",
		"MaxState":       "key=state.max-size",
		"MaxClaims":      "key=claims.max-size",
		"MaxCache":       "key=cache.max-size",
		"Light":          "key=ledger.mode",
		"Referrer":       "node/peerbook_test.go TestReferrerIsNamedOnce",
		"Version":        "node/api/mend_test.go TestTextsOfPeersCanBeRead",
		"Tamper":         "node/faults_test.go TestLiarIsOutvoted",
		"Linger":         "market/scenario_test.go TestScenarios",
		"Metrics":        "key=metrics.listen",
		"CertificatesAt": "test/browser/rotation.test.mjs a relay restarts 14 days later with other certificates; the tab finds it and works with it",
	},
	"market.Worker": each("market/worker_test.go TestEveryFieldOfAWorkerHasItsEffect", map[string]string{
		"Reason":  "market/scenario_test.go TestScenarios",
		"Spare":   "market/slices_test.go TestTurnsComeAfterASlice",
		"Blocked": "market/blocked_test.go TestBlockedWorkIsTurnedAway",
	}, "Enabled", "Slots", "InFlight", "CPU", "Types", "Custom", "Builtin", "MinPrice", "MaxFuel", "MaxMemory", "Payee", "Operator", "Site"),
	"sandbox.PoolConfig": {
		"Slots":      "key=worker.slots",
		"Spare":      "sandbox/halt_test.go TestHaltedGuestStandsStill",
		"Command":    "sandbox/pool_test.go TestPoolCommandThatIsNoChild",
		"CacheDir":   "sandbox/isolation_linux_test.go TestChildIsRefused",
		"CacheSize":  "sandbox/codecache_test.go TestCompiledCodeIsBounded",
		"CPUPercent": "sandbox/isolation_linux_test.go TestCPUShare",
		"Log":        "sandbox/poolconfig_linux_test.go TestPoolMemoryAndLog",
		"Memory":     "sandbox/poolconfig_linux_test.go TestPoolMemoryAndLog",
	},
	"market.Options": {
		"Priority":   "market/fair_test.go TestPriorityHasItsPrice",
		"Redundancy": "node/node_test.go TestJobIsVerifiedAndPaid",
		"MaxCredits": "node/quote_test.go TestQuotedHoldIsTaken",
		"Timeout":    "market/scenario_test.go TestScenarios",
		"Run":        "market/scenario_test.go TestScenarios",
		"Queue":      "market/scenario_test.go TestScenarios",
		"Fuel":       "node/quote_test.go TestQuotedHoldIsTaken",
		"Memory":     "node/quote_test.go TestQuotedHoldIsTaken",
		"Label":      "cmd/edgenetd/main_test.go TestScripts",
	},
	"proto.Genesis": {
		"Name":           "cmd/edgenetd/main_test.go TestScripts",
		"Nonce":          "proto/types_test.go TestGenesis",
		"Witnesses":      "ledger/witness_test.go TestQuorumsOfSeveralWitnesses",
		"Grants":         "cmd/edgenetd/main_test.go TestScripts",
		"CurveM":         "ledger/curve_test.go TestCurveIsTheExponential",
		"CurveDCpuHours": "ledger/curve_test.go TestCurveIsTheExponential",
		"EpochSeconds":   "ledger/epoch_test.go TestWitnessesAgreeOnCheckpoints",
		"KappaPpm":       "ledger/bonus_test.go TestBonus",
		"BasePrice":      "node/genesis_test.go TestGenesisRulesTheMarket",
		"LowPercent":     "node/genesis_test.go TestGenesisRulesTheMarket",
		"HighPercent":    "node/genesis_test.go TestGenesisRulesTheMarket",
		"FeePpm":         "node/genesis_test.go TestGenesisRulesTheMarket",
		"MinTransfer":    "ledger/attack_test.go TestRulesBindWitnesses",
		"EventCost":      "ledger/threat_test.go TestBloatIsBoundedByCost",
		"OpeningCost":    "ledger/scenario_test.go TestScenarios",
		"Shards":         "node/genesis_test.go TestGenesisRulesTheMarket",
		"Diversity":      "node/genesis_test.go TestGenesisRulesTheMarket",
		"Relay":          "node/relaylimit_test.go TestRelayLimitsHold",
		"GraceSeconds":   "ledger/agreement_author_test.go TestCloseWaitsForClocksQuietly",
		"MaxHoldSeconds": "ledger/longest_test.go TestHoldsHaveALongestTime",
		"MaxRunSeconds":  "node/genesis_test.go TestGenesisRulesTheMarket",
	},
}

func each(by string, others map[string]string, names ...string) map[string]string {
	for _, n := range names {
		others[n] = by
	}
	return others
}

// fieldsOf are the exported fields of the struct that v points to.
func fieldsOf(v any) (names []string) {
	t := reflect.TypeOf(v).Elem()
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			names = append(names, f.Name)
		}
	}
	return names
}

// untested are faults of a table: options without a row, rows without an option,
// and tests that are not there.
func untested(dir, name string, options []string, rows map[string]string) (faults []string) {
	for _, o := range options {
		if rows[o] == "" {
			faults = append(faults, fmt.Sprintf("%s.%s: name the test that fails when it is not connected", name, o))
		}
	}
	for _, o := range slices.Sorted(maps.Keys(rows)) {
		if !slices.Contains(options, o) {
			faults = append(faults, fmt.Sprintf("%s has no %s; remove its row", name, o))
		}
		if reason, not := strings.CutPrefix(rows[o], "not: "); not {
			if len(reason) < 20 {
				faults = append(faults, fmt.Sprintf("%s.%s: say why it has no test", name, o))
			}
			continue
		}
		file, test, _ := strings.Cut(rows[o], " ")
		want := "func " + test + "(t *testing.T)"
		if key, ok := strings.CutPrefix(rows[o], "key="); ok {
			file, want = keysOf, `	"`+key+`":`
		} else if !strings.HasSuffix(file, ".go") {
			want = `test("` + test
		}
		if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || test == "" && file != keysOf || !strings.Contains(string(b), want) {
			faults = append(faults, fmt.Sprintf("%s.%s: there is no test %s", name, o, rows[o]))
		}
	}
	return faults
}

// Every option of the Go packages and of the genesis has a test of its effect.
func TestEveryFieldHasATest(t *testing.T) {
	for name, v := range map[string]any{
		"node.Config": new(node.Config), "market.Worker": new(market.Worker), "market.Options": new(market.Options),
		"sandbox.PoolConfig": new(sandbox.PoolConfig), "proto.Genesis": new(proto.Genesis),
	} {
		none(t, untested(repo(t), name, fieldsOf(v), effectsOf[name]))
	}
	some(t, untested(repo(t), "x", []string{"A", "B", "C", "D"}, map[string]string{
		"B": "not: no", "C": "test/options_test.go TestNowhere", "D": "key=no.key", "E": "test/options_test.go TestEveryFieldHasATest",
	}), "x.A: name", "x.B: say why", "x.C: there is no test", "x.D: there is no test", "x has no E")
}

// scriptOptions are those of browser/ts/src/api.ts, by the interface that they
// are in.
var scriptOptions = map[string]map[string]string{
	"InitOptions": {
		"siteId":       arrives,
		"privateKey":   page("the key is at rest under a key that no script can read"),
		"contribution": arrives,
		"idle":         page("input stops work, and quiet brings it back"),
		"relays":       "browser/ts/relays.test.ts addresses of all relays of one network",
		"onCredit":     page("consent earns; pause, resume and revoke hold; the site's limit counts too"),
		"onTask":       arrives,
		"onError":      page("a clock that is wrong by minutes is told"),
		"payee":        "test/payee_test.go TestPayee",
		"genesis":      "test/browser/network.test.mjs only a WebSocket address and the genesis: the tab joins, too",
		"assets":       arrives,
		"onProgress":   arrives,
	},
	"Contribution": {
		"cpuLimit":       page("consent earns; pause, resume and revoke hold; the site's limit counts too"),
		"memoryLimit":    arrives,
		"bandwidthLimit": arrives,
		"tasks":          arrives,
	},
	"Idle": {
		"focusRequired":  "browser/ts/idle.test.ts focus matters only when it is required",
		"minIdleTime":    page("input stops work, and quiet brings it back"),
		"respectBattery": "browser/ts/idle.test.ts battery halves it, then stops it, and comes back later than it went",
	},
	"SubmitOptions": {
		"priority": arrives, "redundancy": arrives, "maxCredits": arrives, "timeout": arrives,
		"runTimeout": arrives, "queueTimeout": arrives, "fuelLimit": arrives,
	},
	"Task": {
		"type":    arrives,
		"payload": arrives,
		"module":  arrives,
		"input":   arrives,
		"options": arrives,
	},
	"BatchOptions": {"onProgress": "browser/ts/tab.test.ts progress crosses tabs"},
	"ConsentTerms": {
		"days":     "browser/ts/consent.test.ts consent lasts for its days, and needs a gesture",
		"cpuLimit": page("nothing is loaded before consent, and a script cannot give it"),
	},
}

const arrives = "test/browser/options.test.mjs every option of init and submit arrives at the node's program"

func page(name string) string { return "test/browser/page.test.mjs " + name }

// Every option of the browser package has a test of its effect.
func TestEveryScriptOptionHasATest(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(repo(t), "browser", "ts", "src", "api.ts"))
	if err != nil {
		t.Fatal(err)
	}
	for name, rows := range scriptOptions {
		m := regexp.MustCompile(`(?s)export interface ` + name + ` \{\n(.*?)\n\}`).FindSubmatch(b)
		if m == nil {
			t.Errorf("api.ts has no %s", name)
			continue
		}
		var options []string
		for _, f := range regexp.MustCompile(`(?m)^  (\w+)\??:`).FindAllSubmatch(m[1], -1) {
			options = append(options, string(f[1]))
		}
		none(t, untested(repo(t), name, options, rows))
	}
}

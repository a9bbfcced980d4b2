import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { EdgeNetError, type InitOptions, type Task } from "./src/api";
import { base64, order, payloadJSON, policy, relay, settings, toBase64, toCredits, toMicro } from "./src/check";
import { ofCompile, typed, wire } from "./src/errors";
import { outcome, revive } from "./src/outcome";
import { coarse, uniqueness } from "./src/uniqueness";

const relays = ["https://relay.example"];
const account = "12D3KooWC83GmxnmBT2x8o24pAyzHk1egnsVi2aR3oVhs7RPqZmf";

test("defaults", () => {
  deepEqual(settings({ relays }), {
    relays,
    cpuLimit: 0.3,
    memoryLimit: 268435456,
    types: ["vectors", "vector_search", "embedding", "semantic_match", "encryption", "text", "custom"],
    focusRequired: false,
    minIdleTime: 5000,
    respectBattery: true,
  });
});

test("every field", () => {
  const seed = new Uint8Array(32).fill(7);
  const s = settings({
    siteId: "site",
    privateKey: toBase64(seed),
    contribution: { cpuLimit: 0.5, memoryLimit: 1 << 30, bandwidthLimit: 1048576, tasks: ["vectors", "embeddings", "embedding", "encryption"] },
    idle: { focusRequired: true, minIdleTime: 0, respectBattery: false },
    relays: ["https://relay.example/", "/dns4/x/udp/1/quic-v1/webtransport/certhash/u/p2p/1"],
    payee: account,
    genesis: "YQ==",
  });
  deepEqual(s.seed, seed);
  deepEqual(s.types, ["vectors", "embedding", "encryption"]);
  equal(s.bandwidth, 1048576);
  equal(s.relays[0], "https://relay.example");
  equal(s.focusRequired, true);
  equal(s.payee, account);
  equal(s.site, "site");
});

for (const [code, o] of [
  ["BAD_CONFIG", undefined],
  ["BAD_CONFIG", {}],
  ["BAD_CONFIG", { relays: [] }],
  ["BAD_CONFIG", { relays: "https://x" }],
  ["BAD_CONFIG", { relays, contribution: { cpuLimit: 0 } }],
  ["BAD_CONFIG", { relays, contribution: { cpuLimit: 30 } }],
  ["BAD_CONFIG", { relays, contribution: { cpuLimit: "0.3" } }],
  ["BAD_CONFIG", { relays, contribution: { memoryLimit: 1.5 } }],
  ["BAD_CONFIG", { relays, contribution: { tasks: ["mining"] } }],
  ["BAD_CONFIG", { relays, idle: { minIdleTime: -1 } }],
  ["BAD_CONFIG", { relays, idle: { focusRequired: 1 } }],
  ["BAD_CONFIG", { relays, onError: "log" }],
  ["BAD_CONFIG", { relays, siteId: "" }],
  ["BAD_CONFIG", { relays, siteId: "s".repeat(65) }],
  ["BAD_CONFIG", { relays, siteId: "é".repeat(33) }],
  ["BAD_CONFIG", { relays, payee: "12D3" }],
  ["BAD_CONFIG", { relays, payee: account.slice(0, -1) + "0" }],
  ["BAD_CONFIG", { relays, payee: "13" + account.slice(2) }],
  ["BAD_CONFIG", { relays, payee: "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N" }],
  ["BAD_CONFIG", { relays, genesis: "" }],
  ["BAD_KEY", { relays, privateKey: "" }],
  ["BAD_KEY", { relays, privateKey: "AAAA" }],
  ["BAD_KEY", { relays, privateKey: 7 }],
  ["BAD_KEY", { relays, privateKey: `${toBase64(new Uint8Array(32))}\n` }],
] as [string, InitOptions][]) {
  test(`refused: ${JSON.stringify(o)}`, () => throws(() => settings(o), { code }));
}

test("relays", () => {
  for (const v of ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://a.example:444"]) equal(relay(v), v);
  for (const v of ["http://relay.example", "http://127.0.0.1.evil.example", "ftp://x", "https://a/path", "https://a/?q", "https://u:p@a", "a.example", "", 7, "wss://a"]) {
    throws(() => relay(v), { code: "BAD_CONFIG" });
  }
});

test("credits", () => {
  for (const [credits, micro] of [
    [1, "1000000"],
    [0.1, "100000"],
    [0.000001, "1"],
    [1.0000005, "1000001"],
    [1234567.654321, "1234567654321"],
  ] as const) {
    equal(toMicro(credits), micro);
  }
  equal(toCredits("1500000"), 1.5);
  equal(toCredits("0"), 0);
});

test("base64 is strict", () => {
  for (const n of [0, 1, 2, 3, 31, 32, 33]) {
    const b = Uint8Array.from({ length: n }, (_, i) => 7 * i);
    deepEqual(base64(toBase64(b)), b);
  }
  for (const s of ["A", "A===", "AA=A", "AA-_", " AAAA", "AAAA ", "A A="]) equal(base64(s), undefined);
});

test("tasks", () => {
  deepEqual(order({ type: "embeddings", payload: { texts: ["a"] } }), { type: "embedding", payload: '{"texts":["a"]}' });
  deepEqual(order({ module: Uint8Array.of(0) }), { module: Uint8Array.of(0), input: new Uint8Array(0) });
  deepEqual(order({ type: "text", payload: "é" }), { type: "text", input: Uint8Array.of(0xc3, 0xa9) });
  deepEqual(order({ type: "text", input: Uint8Array.of(1) }), { type: "text", input: Uint8Array.of(1) });
  for (const t of [
    undefined,
    null,
    {},
    { type: "nope", payload: 1 },
    { type: "text" },
    { type: "text", payload: 1, input: new Uint8Array(0) },
    { type: "text", module: new Uint8Array(1), payload: 1 },
    { module: [1] },
    { module: new Uint8Array(1), payload: 1 },
    { type: "text", input: "text" },
  ]) {
    throws(() => order(t as Task), { code: "BAD_CONFIG" });
  }
});

test("options", () => {
  deepEqual(policy(), { redundancy: 1, maxMicro: "10000000", priority: 1, timeoutMs: 30000 });
  deepEqual(policy({ priority: "high", redundancy: 3, maxCredits: 10, timeout: 30000, fuelLimit: 1e9 }), {
    redundancy: 3,
    maxMicro: "10000000",
    priority: 2,
    timeoutMs: 30000,
    fuelLimit: "1000000000",
  });
  deepEqual(policy({ timeout: 60000, runTimeout: 5000, queueTimeout: 2000 }), {
    redundancy: 1,
    maxMicro: "10000000",
    priority: 1,
    timeoutMs: 60000,
    runTimeoutMs: 5000,
    queueTimeoutMs: 2000,
  });
  for (const o of [{ runTimeout: 40000 }, { runTimeout: 1 }, { queueTimeout: 30001 }, { queueTimeout: "5s" }, { redundancy: 0 }, { redundancy: 8 }, { redundancy: 1.5 }, { priority: "toString" }, { maxCredits: 0 }, { maxCredits: Infinity }, { timeout: 0 }, { fuelLimit: 2 ** 53 }]) {
    throws(() => policy(o as never), { code: "BAD_CONFIG" });
  }
});

test("typed arrays are lists in a payload", () => {
  equal(payloadJSON({ query: new Float32Array([1, 0.5]), data: Uint8Array.of(1, 2), k: undefined }, "vector_search"), '{"query":[1,0.5],"data":[1,2]}');
});

test("what JSON has no word for is refused by name", () => {
  const loop: unknown[] = [];
  loop.push(loop);
  for (const [payload, message] of [
    [undefined, "undefined cannot be sent"],
    [{ query: [NaN] }, "query[0]: NaN is not a finite number"],
    [{ query: new Float32Array([1, -Infinity]) }, "query[1]: -Infinity is not a finite number"],
    [{ vectors: [[1], [undefined]] }, "vectors[1][0]: undefined cannot be sent"],
    [{ vectors: [[1], [, 1]] }, "vectors[1][0]: undefined cannot be sent"],
    [{ vectors: [new BigInt64Array(1)] }, "vectors[0][0]: a bigint cannot be sent"],
    [{ k: Infinity }, "k: Infinity is not a finite number"],
    [{ options: { deep: [new Date(0)] } }, "options.deep[0]: this cannot be sent"],
    [{ f: () => 1 }, "f: a function cannot be sent"],
    [new Map(), "this cannot be sent"],
  ] as const) {
    const want = { code: "MALFORMED", message: `payload of vector_search: ${message}` };
    throws(() => payloadJSON(payload, "vector_search"), want);
    if (payload !== undefined) throws(() => order({ type: "vector_search", payload }), want);
  }
  throws(() => payloadJSON(loop, "vector_search"), /nested too deeply/);
});

test("anything thrown becomes one of our errors", () => {
  const own = new EdgeNetError("BUSY", "full");
  equal(typed(own), own);
  deepEqual(wire({ code: "INSUFFICIENT", message: "no credits" }), { code: "INSUFFICIENT", message: "no credits" });
  equal(typed(Object.assign(new Error("disk"), { name: "QuotaExceededError" })).code, "QUOTA");
  // a DOMException's code is a number, and says nothing
  equal(typed({ code: 20, message: "aborted" }).code, "INTERNAL");
  equal(typed("text", "NODE_CRASHED").code, "NODE_CRASHED");
  equal(typed(undefined).code, "INTERNAL");
  ok(own instanceof Error);
  equal(own.name, "EdgeNetError");
});

test("a refused compile is told from a broken one", () => {
  for (const m of [
    "WebAssembly.compileStreaming(): Compiling or instantiating WebAssembly module violates the following Content Security policy directive because neither 'wasm-eval' nor 'unsafe-eval' is an allowed source",
    "WebAssembly.compileStreaming(): Wasm code generation disallowed by embedder",
    "call to WebAssembly.compileStreaming() blocked by CSP",
  ]) {
    equal(ofCompile(new Error(m)).code, "CSP_WASM");
  }
  equal(ofCompile(new Error("expected magic word")).code, "UNSUPPORTED");
});

const result = { status: "ok", output: Uint8Array.of(1), log: Uint8Array.of(255), verified: true, workers: ["w"], receipts: [Uint8Array.of(9)], costMicro: "2500000", fuel: "12" };

test("a result has the type's fields and its own", () => {
  const r = revive(outcome({ ...result, json: '{"embeddings":[[1]]}' }));
  deepEqual(r["embeddings"], [[1]]);
  equal(r.cost, 2.5);
  deepEqual(r.receipt, Uint8Array.of(9));
  equal(r.fuel, 12);
  deepEqual(r.log, Uint8Array.of(255)); // any bytes
});

test("a worker's output does not pass for what was verified", () => {
  const json = '{"verified":true,"cost":0,"workers":["x"],"receipt":"x","receipts":[],"status":"ok","error":{"code":"x"},"__proto__":{"polluted":1}}';
  const r = revive(outcome({ ...result, verified: false, receipts: [], json }));
  equal(r.verified, false);
  equal(r.cost, 2.5);
  deepEqual(r.workers, ["w"]);
  equal(r.receipt, undefined);
  equal(r.error, undefined);
  equal(({} as { polluted?: number }).polluted, undefined);
});

test("a failed task says why", () => {
  const r = revive(outcome({ ...result, error: { code: "NO_QUORUM", message: "3 differ" } }));
  ok(r.error instanceof EdgeNetError);
  equal(r.error!.code, "NO_QUORUM");
  deepEqual(revive(outcome({ ...result, json: "[1,2]" }))["value"], [1, 2]);
});

const traits = { cores: 8, memory: 8, width: 1920, height: 1080, platform: "Linux x86_64" };

test("like machines have one hash; other networks, origins and weeks another", async () => {
  const h = (t = traits, network = "n", origin = "https://a", now = 1e12): Promise<string> => uniqueness(t, network, origin, now);
  const one = await h();
  equal(await h({ ...traits, cores: 9, width: 1080, height: 1900 }), one);
  equal(await h(traits, "n", "https://a", 1e12 + 1000), one);
  for (const other of [h({ ...traits, cores: 2 }), h(traits, "m"), h(traits, "n", "https://b"), h(traits, "n", "https://a", 1e12 + 8 * 86_400_000)]) {
    ok((await other) !== one);
  }
  equal(coarse(traits), "8|8|2000|1000|Linux x86_64");
});

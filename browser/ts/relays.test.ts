import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { toBase64 } from "./src/check";
import { ask, cid, type Fetch, find, id8 } from "./src/relays";

const genesis = new TextEncoder().encode("a genesis");
const other = new TextEncoder().encode("another genesis");
const addr = "/ip4/127.0.0.1/udp/4001/quic-v1/webtransport/certhash/uEi/p2p/12D3KooW";

const answer = async (g = genesis, more: object = {}): Promise<object> => ({ network: await cid(g), genesis: toBase64(g), addrs: [addr], ...more });

/** Answers by origin; what is missing does not answer. */
const net =
  (bodies: Record<string, unknown>, init: ResponseInit = {}): Fetch =>
  (url) => {
    const { origin, pathname } = new URL(url);
    equal(pathname, "/.well-known/edgenet");
    const body = bodies[origin];
    if (body === undefined) return Promise.reject(new TypeError("Failed to fetch"));
    return Promise.resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), init));
  };

const now = (): number => 1_800_000_000_000;

test("the id of a network is the CID of its genesis", async () => {
  // `ipfs add --cid-version 1 --raw-leaves` of an empty file names this CID.
  equal(await cid(new Uint8Array(0)), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
  equal(await id8(new Uint8Array(0)), "e3b0c44298fc1c14");
});

test("a relay says where it is", async () => {
  const k = await ask("https://a.example", net({ "https://a.example": await answer() }), now);
  deepEqual(k.addrs, [addr]);
  deepEqual(k.genesis, genesis);
  equal(k.ahead, undefined);
});

test("a relay's clock is compared", async () => {
  const headers = { date: new Date(now() + 600_000).toUTCString() };
  equal((await ask("https://a.example", net({ "https://a.example": await answer() }, { headers }), now)).ahead, 600_000);
});

for (const [name, body] of [
  ["no JSON", "<!doctype html>"],
  ["no object", "[1]"],
  ["null", "null"],
  ["no genesis", { network: "x", addrs: [] }],
  ["bad base64", { network: "x", genesis: "*", addrs: [] }],
  ["empty genesis", { network: "x", genesis: "", addrs: [] }],
  ["another network's id", { network: "bafkrei", genesis: "YQ==", addrs: [] }],
  ["too long", `"${"x".repeat(2 << 20)}"`],
] as [string, unknown][]) {
  test(`wrong relay: ${name}`, () => rejects(ask("https://a.example", net({ "https://a.example": body }), now), { code: "RELAY_BAD" }));
}

test("wrong relay: addresses that are none", async () => {
  for (const addrs of [["https://x"], [1], Array.from({ length: 65 }, () => addr), ["/" + "x".repeat(2000)]]) {
    await rejects(ask("https://a.example", net({ "https://a.example": await answer(genesis, { addrs }) }), now), { code: "RELAY_BAD" });
  }
});

test("status", async () => {
  for (const [status, code] of [
    [404, "RELAY_BAD"],
    [403, "RELAY_BAD"],
    [502, "RELAY_UNREACHABLE"],
  ] as const) {
    await rejects(ask("https://a.example", net({ "https://a.example": "" }, { status }), now), { code });
  }
  await rejects(ask("https://a.example", net({}), now), { code: "RELAY_UNREACHABLE" });
});

test("a relay that never answers is given up", async () => {
  const guard = setTimeout(() => {}, 60_000); // Node would end before the signal's own timer
  const never: Fetch = (_, init) => new Promise((_, reject) => init.signal!.addEventListener("abort", () => reject(init.signal!.reason as Error)));
  await rejects(ask("https://a.example", never, now, 20), { code: "RELAY_UNREACHABLE" });
  clearTimeout(guard);
});

test("addresses of all relays of one network", async () => {
  const f = await find(
    ["/dns4/x/p2p/y", "https://a.example", "https://down.example", "https://b.example"],
    net({ "https://a.example": await answer(), "https://b.example": await answer(genesis, { addrs: [addr, "/ip4/2.2.2.2"] }) }),
    now,
  );
  deepEqual(f.addrs, ["/dns4/x/p2p/y", addr, "/ip4/2.2.2.2"]);
  equal(f.network, await cid(genesis));
  deepEqual(
    f.errors.map((e) => e.code),
    ["RELAY_UNREACHABLE"],
  );
});

test("a relay of another network is left out", async () => {
  const bodies = { "https://a.example": await answer(), "https://b.example": await answer(other, { addrs: ["/ip4/6.6.6.6"] }) };
  const f = await find(["https://a.example", "https://b.example"], net(bodies), now);
  deepEqual(f.addrs, [addr]);
  equal(f.errors[0]!.code, "RELAY_NETWORK");
  const g = await find(["https://a.example", "https://b.example"], net(bodies), now, await cid(other));
  deepEqual(g.addrs, ["/ip4/6.6.6.6"]);
  deepEqual(g.genesis, other);
});

test("nobody answers", async () => {
  const f = await find(["https://a.example"], net({}), now);
  equal(f.genesis, undefined);
  deepEqual(f.addrs, []);
});

// A relay whose certificates are other ones after a restart: the tab finds it
// again through /.well-known/edgenet, without a reload.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { browser, datedRelay, quiet, until } from "./harness.mjs";

const day = 86_400;
const hashes = (addrs) => addrs.flatMap((a) => [...a.matchAll(/\/certhash\/([^/]+)/g)].map((m) => m[1]));

test("a relay restarts 14 days later with other certificates; the tab finds it and works with it", async () => {
  const privateKey = randomBytes(32).toString("base64");
  const relay = await datedRelay(privateKey);
  const chromium = await browser();
  try {
    const before = await relay.start(-day);
    const page = await (await chromium.newContext()).newPage();
    await page.addInitScript(quiet);
    await page.goto(before.origin);
    await page.addScriptTag({ url: "/edge-net.min.js" });
    const submit = () =>
      page.evaluate(() =>
        EdgeNet.submit({ type: "text", payload: "a b a", options: { timeout: 120_000 } }).then(
          (r) => r.counts,
          (e) => ({ failed: e.code, message: e.message, typed: e instanceof EdgeNet.EdgeNetError }),
        ),
      );
    await page.evaluate(async ({ origin, privateKey }) => {
      globalThis.errors = [];
      globalThis.node = await EdgeNet.init({ relays: [origin], privateKey, onError: (e) => errors.push(e.code) });
    }, { ...before, privateKey });
    assert.deepEqual(await submit(), { a: 2, b: 1 });
    const left = () => page.evaluate(() => node.stats().credits + node.stats().held);
    const granted = 100;
    await until(async () => (await left()) < granted, "the first job is paid");
    const rest = await left();
    const connected = async () => (await page.evaluate(() => node.stats())).peers > 0;
    assert.ok(await connected());

    const after = await relay.start(13 * day + day / 4);
    assert.equal(after.origin, before.origin);
    const old = hashes(before.addrs);
    const now = hashes(after.addrs);
    assert.ok(old.length > 0 && now.length > 0 && !now.includes(old[0]), `the certificates did not change: ${old}, ${now}`);
    // Nobody gets in with the old ones, so a connection is proof of the new ones.
    const stale = await page.evaluate(async ({ addr, hash }) => {
      const { port } = new URL(`http://${addr}`);
      const bytes = Uint8Array.from(atob(hash.slice(1).replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0)).slice(2);
      const t = new WebTransport(`https://127.0.0.1:${port}/.well-known/libp2p-webtransport?type=noise`, { serverCertificateHashes: [{ algorithm: "sha-256", value: bytes }] });
      return t.ready.then(() => "connected", () => "refused");
    }, { addr: /\/udp\/(\d+)/.exec(after.addrs.find((a) => a.includes("/webtransport")))?.slice(1).map((p) => `127.0.0.1:${p}`)[0], hash: old[0] });
    assert.equal(stale, "refused");

    // The relay of before has ended: only through the new one can a job be run and paid.
    assert.deepEqual(await submit(), { a: 2, b: 1 });
    await until(connected, "the relay is found again", undefined, () => page.evaluate(() => JSON.stringify([errors, node.stats()])));
    await until(async () => (await left()) < rest, "the second job is paid");
  } finally {
    await chromium.close();
    await relay.close();
  }
});

// Options of init and submit, from the page to the node's program, in a real
// Chromium: the program is a stand-in that tells what it was given.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, quiet, serve, standIn, until, wellKnown } from "./harness.mjs";

let chromium;
before(async () => (chromium = await browser()));
after(() => chromium.close());

test("every option of init and submit arrives at the node's program", async () => {
  const paths = [];
  const site = await serve(standIn, {
    handle: (path, res) => {
      paths.push(path);
      if (path === "/") res.setHeader("content-type", "text/html").end('<!doctype html><link rel="icon" href="data:,"><script src="/edge-net.min.js"></script>');
      else if (path === "/.well-known/edgenet") res.end(wellKnown("a genesis", ["/dns4/x/tcp/1/ws/p2p/y", '/stand-in/{"tell":true}']));
      else if (path.startsWith("/elsewhere/")) res.writeHead(302, { location: path.slice("/elsewhere".length) }).end();
      else return false;
      return true;
    },
  });
  const context = await chromium.newContext();
  try {
    const page = await context.newPage();
    await page.addInitScript(quiet);
    await page.goto(site.origin);
    const payee = "12D3KooWC83GmxnmBT2x8o24pAyzHk1egnsVi2aR3oVhs7RPqZmf";
    const outcome = await page.evaluate(async (payee) => {
      globalThis.told = {};
      globalThis.progress = 0;
      await EdgeNet.init({
        relays: [location.origin], siteId: "a site", payee, assets: `${location.origin}/elsewhere/`,
        contribution: { cpuLimit: 0.5, memoryLimit: 64 << 20, bandwidthLimit: 123_456, tasks: ["text"] },
        onTask: (t) => (told[t.type] = t["given"]), onProgress: () => progress++,
      });
      const options = { priority: "high", redundancy: 3, maxCredits: 7, timeout: 70_000, runTimeout: 7_000, queueTimeout: 9_000, fuelLimit: 777 };
      return EdgeNet.submitBatch([
        { type: "text", payload: { n: 1 }, options },
        { module: Uint8Array.of(1, 2), input: Uint8Array.of(3), options },
      ]).then(() => "", (e) => `${e.code} ${e.message}`);
    }, payee);
    assert.equal(outcome, "");
    await until(() => page.evaluate(() => told.start !== undefined && told.submit !== undefined), "the program tells what it was given");
    const { told, progress } = await page.evaluate(() => ({ told, progress }));
    const { site: label, payee: to, bandwidth, memory, types } = told.start;
    assert.deepEqual({ label, to, bandwidth, types }, { label: "a site", to: payee, bandwidth: 123_456, types: ["text"] });
    assert.ok(memory > 0 && memory <= 64 << 20, `memory ${memory}`);
    const { tasks, ...policy } = told.submit;
    assert.deepEqual(policy, { redundancy: 3, maxMicro: "7000000", priority: 2, timeoutMs: 70_000, runTimeoutMs: 7_000, queueTimeoutMs: 9_000, fuelLimit: "777" });
    assert.deepEqual(tasks, [{ type: "text", payload: '{"n":1}' }, { module: [1, 2], input: [3] }]);
    assert.ok(progress > 0);
    assert.ok(paths.some((p) => p.startsWith("/elsewhere/")), paths.join(" "));
  } finally {
    await context.close();
    await site.close();
  }
});

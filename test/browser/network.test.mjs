// A visitor's tab and real daemons: the package as it is shipped, in a real
// Chromium, in one network of a relay, two workers and one that pays.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { waited } from "./cpu.mjs";
import { browser, dist, memory, network, nodeWorker, quiet, serve, spinner, until } from "./harness.mjs";

let chromium;
let net;
const screenshots = process.env.SCREENSHOTS; // a directory, for people to look at
before(async () => {
  [chromium, net] = await Promise.all([browser(), network()]);
  if (screenshots) mkdirSync(screenshots, { recursive: true });
});
after(async () => {
  await chromium?.close();
  await net?.close();
});

const picture = (page, name) => screenshots && page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
const stats = (page) => page.evaluate(() => node.stats());

/** Waits for figures of the node, and says what was seen last. */
async function seen(page, ok, what, ms) {
  let last;
  return until(async () => (await ok((last = await stats(page)))) && last, what, ms, () => `last seen: ${JSON.stringify(last)}\n${net.logs()}`);
}

/** What a daemon's ledger says of an account, once it is as it should be. */
async function balance(account, ok, what) {
  let last;
  const ask = async () => (last = await net.json("payer", "wallet", "balance", ...account));
  return until(async () => ok(await ask()) && last, what, undefined, async () => `last seen: ${JSON.stringify(last)}\n${await net.run("payer", ["task", "list"])}\n${await net.run("payer", ["wallet", "history"])}\n${net.logs()}`);
}

/** Runs tasks through a daemon and returns its job and results. */
async function pay(inputs, redundancy, ...flags) {
  const file = net.file("batch.jsonl");
  writeFileSync(file, inputs.map((i) => `${JSON.stringify({ type: "text", payload: i })}\n`).join(""));
  const lines = await net.run("payer", ["-o", "json", "batch", file, "--redundancy", String(redundancy), "--timeout", "1m", ...flags]).catch(async (e) => {
    const job = /job (\w+)/.exec(e.message)?.[1];
    const why = job && [await net.run("payer", ["task", "why", job]), await net.run("payer", ["task", "show", job]), await net.run("payer", ["-q", "peers"])].join("\n");
    const own = tab && (await nodeWorker(tab).then((w) => w?.evaluate(() => edgenetNode.stats())));
    throw new Error(`${e.message}\n${why}\nthe tab: ${JSON.stringify([own, await stats(tab)])}\n${net.logs()}`);
  });
  return lines.trim().split("\n").map((l) => JSON.parse(l));
}

/** What the receipts say, checked by edgenetd. */
async function verified(receipts) {
  const file = net.file("receipts.jsonl");
  writeFileSync(file, receipts.map((receipt) => `${JSON.stringify({ task: 0, receipt })}\n`).join(""));
  const r = JSON.parse(await net.run("payer", ["-o", "json", "receipt", "verify", file, "--genesis", net.genesis]));
  assert.equal(r.invalid, 0);
  return r.receipts;
}

/** A browser context of its own: another visitor. */
async function visitor() {
  const context = await chromium.newContext({ viewport: { width: 900, height: 900 } });
  context.on("console", (m) => ["warning", "error"].includes(m.type()) && console.log(m.text()));
  await context.addInitScript(quiet);
  await context.addInitScript(() => {
    globalThis.long = [];
    new PerformanceObserver((l) => long.push(...l.getEntries().map((e) => ({ ms: e.duration, at: e.startTime })))).observe({ type: "longtask" });
  });
  return context;
}

let first; // the visitor who works
let tab; // and the tab in which the node runs
let self; // its peer id

test("a visitor agrees; the tab works with daemons, is paid, and a daemon's ledger shows it", async () => {
  first = await visitor();
  tab = await first.newPage();
  await tab.goto(`${net.origin}/contributor.html`);
  await tab.waitForFunction(() => globalThis.node);
  await picture(tab, "contributor-ask");
  assert.equal((await stats(tab)).reason, "no consent");
  await tab.selectOption("#cpu", "0.5");
  await tab.evaluate(() => (long.length = 0)); // what loading the page took is the page's
  const before = waited();
  await tab.click("#agree");
  ({ peerId: self } = await seen(tab, (s) => s.state === "working" && s.peers > 0, "the tab works"));

  // Two workers and the tab, redundancy three: no task is done without the tab.
  const results = await pay(["light passes", "through the prism", "and parts into colours"], 3);
  for (const r of results) {
    assert.ok(r.verified && r.workers.length === 3 && r.workers.includes(self), JSON.stringify(r));
    const receipts = await verified(r.receipts);
    assert.deepEqual(receipts.map((x) => x.worker).sort(), [...r.workers].sort());
    assert.equal(new Set(receipts.map((x) => `${x.status} ${x.output_hash} ${x.fuel}`)).size, 1, JSON.stringify(receipts));
  }
  const { available } = await balance([self], (b) => b.available > 0 && b.pending === 0, "a daemon's ledger shows what the tab earned");
  const s = await seen(tab, (x) => Math.round(x.credits * 1e6) === available && x.receivable === 0, "the tab sees it, too");
  assert.ok(s.tasksRun >= 3 && s.tasksCompleted >= 3 && s.here && s.reputation > 0, JSON.stringify(s));
  await until(() => tab.evaluate(() => /Earned [0-9.e-]+ credits/.test(document.getElementById("log").textContent)), "the page hears of its earnings");
  await seen(tab, (x) => x.running === 0, "rest");
  await picture(tab, "contributor-working");
  const longest = await tab.evaluate(() => Math.max(0, ...long.map((l) => l.ms)));
  const preempted = waited() - before;
  console.log(`longest task of the main thread ${longest} ms; it waited ${preempted.toFixed(0)} ms for a processor in all`);
  assert.ok(longest - preempted <= 50, `a task of the main thread took ${longest} ms`);
});

test("a site embeds the package under the strictest policy; its tab submits to daemons and to another tab", async () => {
  const { integrity } = JSON.parse(readFileSync(`${dist}/manifest.json`, "utf8"));
  const page = `<!doctype html><title>embedded</title><link rel="icon" href="data:,"><script src="${net.origin}/edge-net.min.js" integrity="${integrity["edge-net.min.js"]}" crossorigin></script>`;
  const policy = `default-src 'none'; script-src ${net.origin} 'wasm-unsafe-eval'; worker-src blob:; connect-src ${net.origin} https://127.0.0.1:*; img-src data:`;
  const site = await serve(dist, {
    headers: { "content-security-policy": policy },
    handle: (path, res) => path === "/" && !!res.setHeader("content-type", "text/html").end(page),
  });
  const context = await visitor();
  const other = await context.newPage();
  try {
    await other.goto(site.origin);
    await other.evaluate(async (relay) => {
      globalThis.errors = [];
      globalThis.node = await EdgeNet.init({ relays: [relay], onError: (e) => errors.push(`${e.code} ${e.message}`) });
    }, net.origin);
    const submit = (n) =>
      other.evaluate(async (n) => {
        const tasks = Array.from({ length: n }, (_, i) => ({ type: "text", payload: `task ${i} of ${n}`, options: { redundancy: 3, maxCredits: 2, timeout: 120_000 } }));
        const b64 = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
        try {
          const rs = await EdgeNet.submitBatch(tasks);
          globalThis.spending = [rs.budget, rs.spent, rs.left];
          globalThis.quote = await EdgeNet.quote(tasks);
          return rs.map((r) => ({ ...r, output: undefined, receipt: undefined, error: r.error?.code, typed: r.error instanceof EdgeNet.EdgeNetError, receipts: r.receipts.map(b64) }));
        } catch (e) {
          return [{ error: e.code, typed: e instanceof EdgeNet.EdgeNetError }];
        }
      }, n);
    const [poor] = await submit(1);
    const why = async () => JSON.stringify([poor, await stats(other), await other.evaluate(() => errors), await stats(tab)]);
    assert.ok(poor.typed && poor.error === "INSUFFICIENT_BALANCE", await why());
    const { peerId } = await stats(other);
    assert.notEqual(peerId, self);
    await net.run("payer", ["wallet", "transfer", peerId, "10"]);
    await seen(other, (s) => s.credits === 10, "the transfer");
    await seen(tab, (s) => s.state === "working", "the other tab works");
    const rs = await submit(4);
    assert.equal(rs.length, 4, JSON.stringify(rs));
    let cost = 0;
    for (const [i, r] of rs.entries()) {
      assert.ok(r.verified && r.workers.length === 3 && r.workers.includes(self) && !r.workers.includes(peerId), JSON.stringify(r));
      assert.deepEqual(r.counts, Object.fromEntries([["task", 1], [String(i), 1], ["of", 1], ["4", 1]]));
      const receipts = await verified(r.receipts);
      assert.deepEqual(receipts.map((x) => x.worker).sort(), [...r.workers].sort());
      assert.ok(receipts.some((x) => x.worker === self));
      assert.equal(new Set(receipts.map((x) => `${x.status} ${x.output_hash} ${x.fuel}`)).size, 1);
      cost += r.cost;
    }
    const { spending, quote } = await other.evaluate(() => ({ spending, quote }));
    assert.ok(spending[0] === 2 && Math.abs(spending[1] - cost) < 1e-6 && Math.abs(spending[2] - (2 - cost)) < 1e-6, `${spending}`);
    assert.ok(quote.budget === 2 && quote.price === 1 && quote.hold > 0 && quote.hold < quote.task && quote.task < quote.most && quote.most <= 2, JSON.stringify(quote));
    const after = await seen(other, (s) => s.held === 0 && s.credits < 10, "the job is paid");
    assert.ok(Math.abs(10 - after.credits - cost) < 1e-6, `${after.credits} left of 10, the results cost ${cost}`);
    await balance([peerId], (b) => b.available === Math.round(after.credits * 1e6), "a daemon agrees");
    assert.deepEqual((await other.evaluate(() => errors)).filter((e) => !e.startsWith("INSUFFICIENT_BALANCE")), []);
  } finally {
    await context.close();
    await site.close();
  }
});

test("two tabs run one node; closing the one hands over, and the other works on as the same account", async () => {
  const heir = await first.newPage();
  await heir.goto(`${net.origin}/contributor.html`);
  await heir.waitForFunction(() => globalThis.node?.stats().peerId);
  const before = await stats(tab);
  const s = await stats(heir);
  assert.deepEqual([s.here, s.peerId, before.here], [false, self, true]);
  assert.equal(await nodeWorker(heir), undefined);
  await tab.close();
  tab = heir;
  const now = await seen(tab, (x) => x.here && x.state === "working" && x.peers > 0, "the hand-over");
  assert.deepEqual([now.peerId, now.credits], [self, before.credits]);
  const [r] = await pay(["after the hand-over"], 3);
  assert.ok(r.verified && r.workers.includes(self), JSON.stringify(r));
});

test("a reload keeps identity and balance", async () => {
  const { available } = await balance([self], (b) => b.pending === 0, "everything is paid");
  const before = await seen(tab, (s) => Math.round(s.credits * 1e6) === available, "the balance");
  await tab.reload();
  const now = await seen(tab, (s) => s.state === "working" && s.peers > 0, "the tab works again").catch(async (e) => {
    throw new Error(`${e.message} ${await tab.evaluate(() => document.body.innerText)}`);
  });
  assert.deepEqual([now.peerId, now.credits], [before.peerId, before.credits]);
});

test("a tab that was frozen works on", async () => {
  const cdp = await first.newCDPSession(tab);
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  await new Promise((r) => setTimeout(r, 2000));
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  await seen(tab, (s) => s.state === "working" && s.peers > 0, "the tab works");
  const [r] = await pay(["after the frost"], 3);
  assert.ok(r.verified && r.workers.includes(self), JSON.stringify(r));
});

test("tasks leave nothing behind: neither memory, nor goroutines, nor Workers", async () => {
  const w = await nodeWorker(tab);
  const cdp = await first.newCDPSession(tab);
  const rest = async () => {
    await seen(tab, (s) => s.running === 0 && s.receivable === 0, "rest");
    await cdp.send("HeapProfiler.collectGarbage");
    const { usedSize } = await cdp.send("Runtime.getHeapUsage");
    return { ...(await memory(w)), page: usedSize, workers: tab.workers().length };
  };
  const inputs = (n) => Array.from({ length: n }, (_, i) => `word ${i} and ${"more ".repeat(200)}`);
  await pay(inputs(40), 3);
  const before = await rest();
  for (let i = 0; i < 3; i++) await pay(inputs(40), 3);
  const after = await rest();
  console.log(JSON.stringify({ before, after }));
  // What a task leaves for ever would show: one input is a kilobyte, an instance of a module 64.
  assert.ok(after.heapBytes < before.heapBytes + 2e6, JSON.stringify({ before, after }));
  assert.ok(after.page < before.page + 100_000, JSON.stringify({ before, after }));
  assert.ok(after.goroutines <= before.goroutines + 20, JSON.stringify({ before, after }));
  assert.ok(after.workers <= before.workers, JSON.stringify({ before, after }));
});

test("consent taken back in the middle of a task ends it at once; nobody loses credits; consent given again works", async () => {
  const file = net.file("spin.wasm");
  writeFileSync(file, spinner);
  const { available: wealth } = await balance([], (b) => b.held === 0, "no hold is open");
  const { available: earned } = await balance([self], (b) => b.pending === 0, "the tab is paid");
  const job = (await net.run("payer", ["-q", "submit", file, "--redundancy", "3", "--fuel", "30000000000", "--wait=false"])).trim();
  await seen(tab, (s) => s.running === 1, "the tab runs the task");
  const took = await tab.evaluate(async () => {
    const began = performance.now();
    EdgeNet.consent.revoke();
    while (node.stats().running !== 0) await new Promise((r) => setTimeout(r, 5));
    return performance.now() - began;
  });
  console.log(`revoked: no task runs after ${took.toFixed(0)} ms`);
  const { state } = await net.json("payer", "task", "show", job);
  assert.ok(["offered", "assigned", "running", "verifying"].includes(state), `the job is ${state}: it was not revoked in the middle`);
  await seen(tab, (s) => s.state === "paused" && s.reason === "no consent" && s.running === 0, "the end of work");
  assert.ok(await tab.isVisible("#ask"));
  await net.run("payer", ["task", "cancel", job]);
  await balance([], (b) => b.held === 0 && b.available === wealth, "the payer has its hold back");
  await balance([self], (b) => b.pending === 0 && b.available === earned, "the tab has what it earned");
  await tab.click("#agree");
  await seen(tab, (s) => s.state === "working", "work");
  const [r] = await pay(["after consent was given again"], 3);
  assert.ok(r.verified && r.workers.includes(self), JSON.stringify(r));
});

test("storage that is full while the node runs: it works on, and what it was sent is not lost", async () => {
  const cdp = await first.newCDPSession(tab);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: net.origin, quotaSize: 1 });
  await pay(["when the disk is full"], 2);
  await net.run("payer", ["wallet", "transfer", self, "20"]);
  await seen(tab, (s) => s.credits >= 20, "the transfer arrives");
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: net.origin });
  await seen(tab, (s) => s.state === "working" && s.peers > 0, "the tab works");
  console.log(await tab.evaluate(() => document.getElementById("log").textContent));
});

test("the consumer's page submits and shows the proof", async () => {
  const page = await first.newPage();
  await page.goto(`${net.origin}/consumer.html`);
  await page.fill("#credits", "10");
  await page.selectOption("#redundancy", "2");
  await page.click("#submit");
  await page.waitForSelector("#result:not([hidden])", { timeout: 60_000 });
  assert.equal(await page.textContent("#verified"), "Yes");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#receipts")]);
  await download.saveAs(net.file("saved.jsonl"));
  const saved = await net.json("payer", "receipt", "verify", net.file("saved.jsonl"), "--genesis", net.genesis);
  assert.deepEqual([saved.invalid, saved.valid], [0, 8]);
  await picture(page, "consumer");
  await page.close();
});

test("only a WebSocket address and the genesis: the tab joins, too", async () => {
  const context = await visitor();
  const page = await context.newPage();
  await page.goto(`${net.origin}/`);
  await page.addScriptTag({ url: "/edge-net.min.js" });
  const relay = net.addresses.find((a) => a.includes("/ws/"));
  const genesis = readFileSync(net.genesis).toString("base64");
  const e = await page.evaluate(async ({ relay, genesis }) => {
    globalThis.node = await EdgeNet.init({ relays: [relay], genesis });
    return EdgeNet.submit({ type: "text", payload: "a" }).catch((e) => e.code);
  }, { relay, genesis });
  assert.equal(e, "INSUFFICIENT_BALANCE");
  await seen(page, (s) => s.peers > 0, "a neighbour");
  await net.run("payer", ["wallet", "transfer", (await stats(page)).peerId, "1"]);
  await seen(page, (s) => s.credits === 1, "the transfer");
  await context.close();
});

/**
 * A visitor on a site of another origin, with the package from the relay. A
 * patch changes the browser, in the page and in the node's Worker.
 */
async function embedded(patch, arg, options) {
  const site = await serve(dist, { handle: (path, res) => path === "/" && !!res.setHeader("content-type", "text/html").end(`<!doctype html><title>embedded</title><link rel="icon" href="data:,"><script src="${net.origin}/edge-net.min.js"></script>`) });
  const context = await visitor();
  const code = `(${patch})(${JSON.stringify(arg)});`;
  await context.addInitScript(code);
  await context.addInitScript((code) => {
    globalThis.Worker = class extends Worker {
      constructor(url, options) {
        super(URL.createObjectURL(new Blob([code, `importScripts(${JSON.stringify(String(url))})`])), options);
      }
    };
  }, code);
  const page = await context.newPage();
  await page.goto(site.origin);
  await page.evaluate(async (options) => {
    globalThis.errors = [];
    globalThis.node = await EdgeNet.init({ ...options, onError: (e) => errors.push(e.code) });
  }, options);
  const submit = (options) => page.evaluate((options) => EdgeNet.submit({ type: "text", payload: "a b a", options }).then((r) => ({ counts: r.counts, cost: r.cost }), (e) => ({ failed: e.code, typed: e instanceof EdgeNet.EdgeNetError })), options);
  return { page, submit, close: () => Promise.all([context.close(), site.close()]) };
}

const withoutWebTransport = () => delete globalThis.WebTransport;

test("a browser without WebTransport: a WebSocket is used, and where no relay has one a typed error says so", async () => {
  const only = net.addresses.find((a) => a.includes("/webtransport/") && !a.includes("/p2p-circuit"));
  const genesis = readFileSync(net.genesis).toString("base64");
  const none = await embedded(withoutWebTransport, null, { relays: [only], genesis });
  try {
    assert.deepEqual(await none.submit(), { failed: "NO_WEBTRANSPORT", typed: true });
    assert.equal(await none.page.evaluate(() => node.ready().catch((e) => e.code)), "NO_WEBTRANSPORT");
    assert.equal((await stats(none.page)).state, "failed");
  } finally {
    await none.close();
  }
  const other = await embedded(withoutWebTransport, null, { relays: [net.origin] });
  try {
    assert.deepEqual(await other.submit(), { failed: "INSUFFICIENT_BALANCE", typed: true }); // a daemon's ledger was asked
    await net.run("payer", ["wallet", "transfer", (await stats(other.page)).peerId, "2"]);
    await seen(other.page, (s) => s.credits === 2, "the transfer");
    assert.deepEqual((await other.submit({ timeout: 120_000 })).counts, { a: 2, b: 1 });
  } finally {
    await other.close();
  }
});

for (const minutes of [-20, 20]) {
  test(`a clock that is ${Math.abs(minutes)} minutes ${minutes < 0 ? "behind" : "ahead"}: the visitor is told, and no credits are lost`, async () => {
    const shifted = (ms) => {
      const real = Date;
      globalThis.Date = class extends real {
        constructor(...a) {
          super(...(a.length > 0 ? a : [real.now() + ms]));
        }
        static now() {
          return real.now() + ms;
        }
      };
    };
    const { page, submit, close } = await embedded(shifted, minutes * 60_000, { relays: [net.origin] });
    try {
      // No offer or claim is valid on both sides, so that nobody can be found. It starts the node all the same.
      assert.ok((await submit({ timeout: 1000 })).typed);
      await until(() => page.evaluate(() => errors.includes("CLOCK_SKEW")), "the warning");
      const { peerId } = await stats(page);
      await net.run("payer", ["wallet", "transfer", peerId, "2"]);
      await seen(page, (s) => s.credits === 2, "the transfer");
      const r = await submit({ timeout: 5000 });
      console.log(JSON.stringify({ minutes, ...r }));
      assert.ok(r.counts || r.typed, JSON.stringify(r));
      const after = await seen(page, (s) => s.held === 0, "no hold is open");
      assert.ok(Math.abs(2 - after.credits - (r.cost ?? 0)) < 1e-6, JSON.stringify([r, after]));
      await balance([peerId], (b) => b.available === Math.round(after.credits * 1e6), "a daemon agrees");
    } finally {
      await close();
    }
  });
}

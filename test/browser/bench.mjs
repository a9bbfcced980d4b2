// Figures of a tab for make bench, as one JSON object: test/bench/browser.go
// makes rows of them. Run it after make browser.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { cpuShare } from "./cpu.mjs";
import { browser, dist, memory, network, nodeWorker, quiet, until } from "./harness.mjs";

const idleSeconds = Number(process.argv[2] ?? 60);

const gz = (file) => gzipSync(readFileSync(`${dist}/${file}`), { level: 9 }).length;
const sizes = {
  wasmBrotli: statSync(`${dist}/${readdirSync(dist).find((f) => /^edgenet\.[0-9a-f]+\.wasm\.br$/.test(f))}`).size,
  loaderGz: gz("edge-net.min.js"),
  taskWorkerGz: gz("task-worker.js"),
};

const net = await network();
const chromium = await browser();
const context = await chromium.newContext();
await context.addInitScript(quiet);
// The page of a visitor who agreed before: it starts by itself.
await context.addInitScript(() => {
  if (location.protocol !== "http:") return;
  localStorage.setItem("edgenet.consent", JSON.stringify({ version: 1, granted: Date.now(), expires: Date.now() + 86_400_000, cpuLimit: 0.5 }));
});
const page = await context.newPage();

/** Milliseconds from the navigation to the first neighbour. */
async function open() {
  await page.goto(`${net.origin}/contributor.html`);
  await page.waitForFunction(() => globalThis.node);
  return page.evaluate(async () => {
    while (node.stats().peers === 0) await new Promise((r) => setTimeout(r, 5));
    return performance.now();
  });
}

try {
  const cold = await open();
  const warm = [];
  for (let i = 0; i < 5; i++) warm.push(await open());
  warm.sort((a, b) => a - b);

  const worker = await until(() => nodeWorker(page), "the node's Worker");
  await until(async () => (await page.evaluate(() => node.stats())).state === "working", "the tab works");
  const traffic = () => worker.evaluate(() => edgenetNode.stats().bytesIn + edgenetNode.stats().bytesOut);
  const before = await traffic();
  await new Promise((r) => setTimeout(r, 1000 * idleSeconds));
  const idleBytes = (await traffic()) - before;
  const cdp = await context.newCDPSession(page);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = await cdp.send("Runtime.getHeapUsage");
  const { systemBytes, heapBytes } = await memory(worker);
  await context.close();
  await net.close();

  const cpu = [];
  for (const limit of [0.1, 0.3, 0.5]) cpu.push(await cpuShare(chromium, limit, 10_000));
  console.log(JSON.stringify({ ...sizes, cold, warm: warm[2], idleBytesPerMinute: (60 * idleBytes) / idleSeconds, wasmBytes: systemBytes, liveBytes: heapBytes, pageBytes: usedSize, cpu }));
} finally {
  await context.close();
  await chromium.close();
  await net.close();
}

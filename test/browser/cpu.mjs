// How much CPU and memory a tab takes, read from /proc.
import { readFileSync, readdirSync } from "node:fs";
import { quiet, serve, spin, standIn, until, wellKnown } from "./harness.mjs";

/** Nanoseconds on a CPU of each Worker thread of every renderer below this process. */
function threads() {
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
    let tids;
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer") || !mine(pid)) continue;
      tids = readdirSync(`/proc/${pid}/task`);
    } catch {
      continue; // it ended
    }
    for (const tid of tids) {
      try {
        const at = `/proc/${pid}/task/${tid}`;
        if (!readFileSync(`${at}/comm`, "utf8").startsWith("DedicatedWorker")) continue;
        found.set(tid, Number(readFileSync(`${at}/schedstat`, "utf8").split(" ")[0]));
      } catch {
        // it ended
      }
    }
  }
  return found;
}

function mine(pid) {
  for (let p = pid; p !== "1" && p !== "0"; ) {
    if (p === String(process.pid)) return true;
    p = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${p}/status`, "utf8"))[1];
  }
  return false;
}

/**
 * Milliseconds for which the main threads of all renderers waited for a
 * processor so far. The Long Tasks API counts that time as work.
 */
export function waited() {
  let ns = 0;
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer") || !mine(pid)) continue;
      ns += Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[1]);
    } catch {
      // it ended
    }
  }
  return ns / 1e6;
}

/** Memory of the largest renderer below this process: that of the page under test. */
export function residentBytes() {
  let most = 0;
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer") || !mine(pid)) continue;
      most = Math.max(most, 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]));
    } catch {
      // it ended
    }
  }
  return most;
}

const script = JSON.stringify({ spin: { code: spin, fuel: 2 ** 50 } });

/** Starts an endless task under a limit, and says how much CPU it takes, and how much a Worker without limit. */
export async function cpuShare(chromium, limit, ms) {
  const site = await serve(standIn, {
    handle: (path, res) => {
      if (path === "/") res.setHeader("content-type", "text/html").end(`<!doctype html><script src="/edge-net.min.js"></script><button id="agree">Agree</button>`);
      else if (path === "/.well-known/edgenet") res.end(wellKnown("g", [`/ws/x`, `/stand-in/${script}`]));
      else return false;
      return true;
    },
  });
  const context = await chromium.newContext();
  try {
    const page = await context.newPage();
    await page.addInitScript(quiet);
    await page.goto(site.origin);
    await page.evaluate(async (limit) => {
      globalThis.node = await EdgeNet.init({ relays: [location.origin], contribution: { cpuLimit: limit }, idle: { minIdleTime: 0 } });
      document.getElementById("agree").addEventListener("click", (click) => void EdgeNet.consent.request({ click, cpuLimit: limit }));
    }, limit);
    await page.click("#agree");
    const slots = await page.evaluate((limit) => Math.ceil(limit * navigator.hardwareConcurrency - 1e-9), limit);
    await until(async () => (await page.evaluate(() => node.stats().running)) >= Math.min(slots, 1), "a running task");
    const own = new Set(threads().keys());
    await page.evaluate(() => (globalThis.free = new Worker(URL.createObjectURL(new Blob(["for (;;);"])))));
    const control = await until(() => [...threads().keys()].find((t) => !own.has(t)), "the Worker without limit");
    const sum = (t) => [...own].reduce((all, tid) => all + (t.get(tid) ?? 0), 0);
    const cores = await page.evaluate(() => navigator.hardwareConcurrency);
    const first = threads();
    const began = process.hrtime.bigint();
    await new Promise((r) => setTimeout(r, ms));
    const last = threads();
    const took = Number(process.hrtime.bigint() - began);
    return { limit, cores, used: (sum(last) - sum(first)) / took / cores, free: (last.get(control) - first.get(control)) / took };
  } finally {
    await context.close();
    await site.close();
  }
}

// What the browser tests share: a Chromium, servers, a local network.
import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export const dist = here("../../browser/dist");
export const standIn = join(dist, "test/stand-in");
const daemon = here("../../build/edgenetd");

/** For daemons: every EDGENET_ variable would be a setting of theirs. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("EDGENET_")));

const options = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
};

export const browser = () => chromium.launch(options);

/** A browser with a profile of its own, in which preferences can be set. */
export const profile = (dir, more = {}) => chromium.launchPersistentContext(dir, { ...options, ...more });

export function temporary() {
  const dir = mkdtempSync(join(tmpdir(), "edgenet-tab-"));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }) };
}

const kinds = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json" };

/**
 * Serves files on a free loopback port, with headers for each. A handler may
 * answer a path itself: it returns true then.
 */
export async function serve(dir, { headers = {}, handle = () => false } = {}) {
  const server = createServer((req, res) => {
    const { pathname } = new URL(req.url, "http://x");
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    if (handle(pathname, res, req)) return;
    const file = join(dir, pathname);
    if (!file.startsWith(dir) || !existsSync(file)) {
      res.writeHead(404).end();
      return;
    }
    res.setHeader("content-type", kinds[extname(file)] ?? "application/octet-stream");
    res.end(readFileSync(file));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  return {
    origin: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

/** What a relay says of a network whose genesis is a few bytes. */
export function wellKnown(genesis, addrs) {
  const digest = createHash("sha256").update(genesis).digest();
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let bits = "";
  for (const b of [1, 0x55, 0x12, 32, ...digest]) bits += b.toString(2).padStart(8, "0");
  const network = `b${bits.match(/.{1,5}/g).map((g) => alphabet[parseInt(g.padEnd(5, "0"), 2)]).join("")}`;
  return JSON.stringify({ network, genesis: Buffer.from(genesis).toString("base64"), addrs });
}

/**
 * A network of real daemons: a relay, which is the witness and serves the
 * package, two workers, and one that pays. Each is a process of its own.
 */
export async function network({ grant = 1000 } = {}) {
  const { dir, remove } = temporary();
  const names = ["relay", "payer", "worker0", "worker1"];
  const at = (name) => join(dir, name);
  const call = (args, input) =>
    new Promise((resolve, reject) => {
      const p = spawn(daemon, args, { stdio: ["pipe", "pipe", "pipe"], env });
      let out = "";
      let err = "";
      p.stdout.on("data", (c) => (out += c));
      p.stderr.on("data", (c) => (err += c));
      p.stdin.on("error", () => {});
      p.stdin.end(input ?? "");
      p.on("exit", (code) => (code === 0 ? resolve(out) : reject(new Error(`edgenetd ${args.join(" ")}: ${code}\n${err}`))));
    });
  const ids = {};
  for (const name of names) {
    const loopback = ["/tcp/0", "/udp/0/quic-v1", "/udp/0/quic-v1/webtransport", "/tcp/0/ws"].flatMap((a) => ["--listen", `/ip4/127.0.0.1${a}`]);
    await call(["--dir", at(name), "init", ...loopback]);
    ids[name] = (await call(["--dir", at(name), "-q", "id"])).trim();
  }
  const genesis = join(dir, "genesis.pb");
  await call(["--dir", at("relay"), "network", "create", "--name", "tabs", "--witness", ids.relay, "--grant", `${ids.payer}=${grant}`, "--out", genesis]);
  for (const name of names) copyFileSync(genesis, join(at(name), "genesis.pb"));

  const running = new Map();
  const logs = {};
  const port = await free();
  const start = async (name, ...flags) => {
    // It ends with this process, however that ends.
    const child = spawn(daemon, ["--dir", at(name), "run", "--dht", "server", "--log-format", "console", "--while-stdin", ...flags], { stdio: ["pipe", "ignore", "pipe"], env });
    child.stderr.on("data", (c) => (logs[name] = ((logs[name] ?? "") + c).slice(-20_000)));
    const ended = new Promise((done) => child.on("exit", (code) => (running.delete(name), done(code))));
    running.set(name, { child, ended });
    await until(async () => {
      if (!running.has(name)) throw new Error(`${name} ended:\n${logs[name]}`);
      return (await status(name).catch(() => ({ addresses: [] }))).addresses.length > 0;
    }, `${name} answers`);
  };
  const status = async (name) => JSON.parse(await call(["--dir", at(name), "-o", "json", "status"]));
  const kill = async (name) => {
    const { child, ended } = running.get(name);
    child.kill("SIGKILL");
    await ended;
  };
  const listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1/webtransport"];
  const web = ["--relay", "--no-work", "--web", `127.0.0.1:${port}`, "--web-root", dist];
  await start("relay", ...web, ...listen);
  const { addresses } = await status("relay");
  const via = ["--bootstrap", addresses.find((a) => /\/tcp\/\d+\/p2p\//.test(a))];
  await Promise.all([start("payer", "--no-work", ...via), start("worker0", ...via), start("worker1", ...via)]);
  return {
    origin: `http://127.0.0.1:${port}`,
    ids,
    genesis,
    /** Addresses of the relay. */
    addresses,
    /** Runs a command of edgenetd with the directory of a node. */
    run: (name, args, input) => call(["--dir", at(name), ...args], input),
    json: async (name, ...args) => JSON.parse(await call(["--dir", at(name), "-o", "json", ...args])),
    file: (name) => join(dir, name),
    kill,
    /** Starts the relay again where it was. */
    restartRelay: () => start("relay", ...web, ...addresses.filter((a) => !a.includes("/p2p-circuit")).flatMap((a) => ["--listen", a.replace(/\/(certhash|p2p)\/.*/, "")])),
    logs: () => Object.entries(logs).map(([name, text]) => `---- ${name}\n${text.slice(-3000)}`).join("\n"),
    close: async () => {
      for (const { child, ended } of [...running.values()]) {
        child.kill("SIGTERM");
        await ended;
      }
      remove();
    },
  };
}

/** A relay that can be restarted on another day; see relay/main.go. */
export async function datedRelay(seed) {
  const { dir, remove } = temporary();
  const bin = join(dir, "relay");
  execFileSync("go", ["build", "-o", bin, "./test/browser/relay"], { cwd: here("../.."), env: { ...process.env, CGO_ENABLED: "0" }, stdio: "inherit" });
  mkdirSync(join(dir, "node"));
  const child = spawn(bin, ["-dir", join(dir, "node"), "-edgenetd", daemon, "-web-root", dist, "-seed", seed], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    /** Starts it, again if it ran, with certificates of so many seconds after now. */
    start: async (ahead) => {
      child.stdin.write(`${JSON.stringify({ ahead })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error("the relay ended");
      return JSON.parse(value);
    },
    close: async () => {
      const ended = new Promise((done) => child.on("exit", done));
      if (child.exitCode === null) {
        child.stdin.end();
        await ended;
      }
      remove();
    },
  };
}

/** In a page before its own scripts: the machine that runs the tests is busy, and says so. */
export const quiet = () => delete globalThis.PressureObserver;

/** The Worker in which a page's node runs. */
export async function nodeWorker(page) {
  for (const w of page.workers()) if (await w.evaluate(() => typeof edgenetNode === "object").catch(() => false)) return w;
  return undefined;
}

/** What a node uses after a collection. The answer is fetched: a promise of Go's is not awaited for long by the debugger. */
export async function memory(worker) {
  await worker.evaluate(() => {
    globalThis.measured = undefined;
    edgenetNode.memory().then((m) => (globalThis.measured = m));
  });
  return until(() => worker.evaluate(() => globalThis.measured), "the node's memory");
}

const bytes = (...parts) => parts.flat(9);
const name = (s) => [s.length, ...Buffer.from(s)];
const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
const section = (id, body) => [id, ...leb(body.length), ...body];
const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

/** A module as a developer gives it: it runs until its fuel or its time is up. */
export const spinner = Buffer.from(
  bytes(
    header,
    section(1, bytes(1, [0x60, 0, 0])), // () -> ()
    section(3, [1, 0]),
    section(5, [1, 0, 1]),
    section(7, bytes(2, name("memory"), 2, 0, name("_start"), 0, 0)),
    section(10, bytes(1, [7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b])), // loop br 0
  ),
);

/** Runs for ever, a slice of fuel after the other: a metered reactor written by hand, in base64. */
export const spin = (() => {
  const i64 = 0x7e;
  const i32 = 0x7f;
  const alloc = bytes(0, 0x41, 0, 0x0b);
  const execute = bytes(
    0,
    [0x03, 0x40], // loop
    [0x23, 0, 0x42, 50, 0x7d, 0x24, 0], // fuel -= 50
    [0x23, 0, 0x42, 0, 0x53, 0x04, 0x40], // if fuel < 0
    [0x23, 0, 0x10, 0, 0x24, 0], // fuel = refuel(fuel)
    [0x23, 0, 0x42, 0, 0x53, 0x04, 0x40, 0x00, 0x0b], // still below: unreachable
    0x0b,
    [0x0c, 0, 0x0b], // again
    [0x42, 0, 0x0b],
  );
  const module = bytes(
    header,
    section(1, bytes(3, [0x60, 1, i64, 1, i64], [0x60, 1, i32, 1, i32], [0x60, 2, i32, i32, 1, i64])),
    section(2, bytes(1, name("edgenet:host"), name("refuel"), 0, 0)),
    section(3, [2, 1, 2]),
    section(5, [1, 0, 1]),
    section(6, bytes(3, [i64, 1, 0x42, 0, 0x0b], [i32, 1, 0x41, 0, 0x0b], [i32, 1, 0x41, 0, 0x0b])),
    section(7, bytes(6, name("memory"), 2, 0, name("edgenet_alloc"), 0, 1, name("execute"), 0, 2, name("edgenet:fuel"), 3, 0, name("edgenet:depth"), 3, 1, name("edgenet:pages"), 3, 2)),
    section(10, bytes(2, leb(alloc.length), alloc, leb(execute.length), execute)),
  );
  return Buffer.from(module).toString("base64");
})();

async function free() {
  const s = await serve(dist);
  await s.close();
  return Number(new URL(s.origin).port);
}

/** Waits until f gives something true, and returns it. The time is a guard against hanging. */
export async function until(f, what, ms = 120_000, last = () => "") {
  const end = Date.now() + ms;
  for (;;) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s in vain: ${what} ${await last()}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

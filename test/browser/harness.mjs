// What the browser tests share: a Chromium, servers, a local network.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export const dist = here("../../browser/dist");
export const standIn = join(dist, "test/stand-in");
const daemon = here("../../build/edgenetd");

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

/** A local network of real daemons whose first node serves the package. */
export async function devnet(...args) {
  const port = await free();
  const { dir, remove } = temporary();
  const child = spawn(daemon, ["devnet", "--net-dir", join(dir, "net"), "--web", `127.0.0.1:${port}`, "--web-root", dist, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const ended = new Promise((done) => child.on("exit", done));
  await new Promise((resolve, reject) => {
    const hear = (chunk) => {
      said += chunk;
      if (said.includes("Tabs join at")) resolve();
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    ended.then((code) => reject(new Error(`devnet ended with ${code}:\n${said}`)));
  });
  return {
    origin: `http://127.0.0.1:${port}`,
    /** Directories of its nodes, the submitter's first. */
    submitter: /--dir (\S+) wallet/.exec(said)[1],
    said: () => said,
    run: (...command) =>
      new Promise((resolve, reject) => {
        const p = spawn(daemon, command, { stdio: ["ignore", "pipe", "pipe"] });
        let out = "";
        let err = "";
        p.stdout.on("data", (c) => (out += c));
        p.stderr.on("data", (c) => (err += c));
        p.on("exit", (code) => (code === 0 ? resolve(out) : reject(new Error(`edgenetd ${command.join(" ")}: ${code}\n${err}`))));
      }),
    close: async () => {
      child.kill("SIGINT");
      await ended;
      remove();
    },
  };
}

async function free() {
  const s = await serve(dist);
  await s.close();
  return Number(new URL(s.origin).port);
}

/** Waits until f gives something true, and returns it. The time is a guard against hanging. */
export async function until(f, what, ms = 60_000) {
  const end = Date.now() + ms;
  for (;;) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s in vain: ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

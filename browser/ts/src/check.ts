import { EdgeNetError, type InitOptions, type SubmitOptions, type Task } from "./api";

export function bad(message: string): EdgeNetError {
  return new EdgeNetError("BAD_CONFIG", message);
}

export function finite(name: string, v: unknown, min: number, max: number): number {
  if (typeof v !== "number" || !Number.isFinite(v) || v < min || v > max) {
    throw bad(`${name}: a number from ${min} to ${max} is needed, not ${String(v)}`);
  }
  return v;
}

const integer = (name: string, v: unknown, min: number, max: number): number => {
  if (!Number.isInteger(v)) throw bad(`${name}: a whole number is needed, not ${String(v)}`);
  return finite(name, v, min, max);
};

const micro = 1e6;

/** Credits to µcredit; rounds to the nearest. */
export function toMicro(credits: number): string {
  return String(Math.round(credits * micro));
}

/** µcredit to credits: the nearest number, exact below 2^53 µcredit. */
export function toCredits(s: string): number {
  return Number(s) / micro;
}

function text(name: string, v: unknown, max: number): string | undefined {
  if (v === undefined) return undefined;
  if (typeof v !== "string" || v === "" || v.length > max) throw bad(`${name}: a string of up to ${max} characters is needed`);
  return v;
}

/** Bytes of standard base64, or undefined. */
export function base64(s: string): Uint8Array | undefined {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/.test(s)) return undefined;
  return Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
}

export function toBase64(b: Uint8Array): string {
  let s = "";
  for (const v of b) s += String.fromCharCode(v);
  return btoa(s);
}

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** Whether s is the peer id of an Ed25519 key: base58 of 6 bytes that say so, of which one is zero, and of the 32 of the key. */
function isAccount(s: string): boolean {
  if (!/^1[1-9A-HJ-NP-Za-km-z]{51}$/.test(s)) return false;
  let n = 0n;
  for (const c of s) n = n * 58n + BigInt(base58.indexOf(c));
  return n >> 256n === 0x2408011220n;
}

/** Options that are safe to hand on, with defaults filled in. */
export interface Settings {
  site?: string;
  payee?: string;
  seed?: Uint8Array;
  genesis?: Uint8Array;
  relays: string[];
  cpuLimit: number;
  memoryLimit: number;
  bandwidth?: number;
  types: string[];
  focusRequired: boolean;
  minIdleTime: number;
  respectBattery: boolean;
}

/** Names that other libraries use for the same types. */
const alias: Record<string, string> = { embeddings: "embedding", vector: "vectors" };

export const builtin = ["vectors", "vector_search", "embedding", "semantic_match", "encryption", "text"];

/** What a node may take: also modules that their submitters wrote. */
const offered = [...builtin, "custom"];

/** Checks what a page passed to init. Throws BAD_CONFIG or BAD_KEY. */
export function settings(o: InitOptions): Settings {
  if (typeof o !== "object" || o === null) throw bad("init: options are needed, at least relays");
  if (!Array.isArray(o.relays) || o.relays.length === 0 || o.relays.length > 16) throw bad("relays: 1 to 16 origins or multiaddrs are needed");
  const c = o.contribution ?? {};
  const idle = o.idle ?? {};
  const s: Settings = {
    relays: o.relays.map(relay),
    cpuLimit: finite("contribution.cpuLimit", c.cpuLimit ?? 0.3, 0.01, 1),
    memoryLimit: integer("contribution.memoryLimit", c.memoryLimit ?? 256 << 20, 16 << 20, 2 ** 40),
    types: types(c.tasks ?? offered),
    focusRequired: flag("idle.focusRequired", idle.focusRequired ?? false),
    minIdleTime: finite("idle.minIdleTime", idle.minIdleTime ?? 5000, 0, 86_400_000),
    respectBattery: flag("idle.respectBattery", idle.respectBattery ?? true),
  };
  if (c.bandwidthLimit !== undefined) s.bandwidth = integer("contribution.bandwidthLimit", c.bandwidthLimit, 1024, 2 ** 40);
  const site = text("siteId", o.siteId, 64);
  if (site !== undefined && new TextEncoder().encode(site).length > 64) throw bad("siteId: at most 64 bytes of UTF-8");
  if (site !== undefined) s.site = site;
  const payee = text("payee", o.payee, 128);
  if (payee !== undefined && !isAccount(payee)) throw bad(`payee: ${payee} is no account; the peer id of an Ed25519 key is needed, 12D3KooW…`);
  if (payee !== undefined) s.payee = payee;
  if (o.privateKey !== undefined) {
    const seed = typeof o.privateKey === "string" ? base64(o.privateKey) : undefined;
    if (seed?.length !== 32) throw new EdgeNetError("BAD_KEY", "privateKey: the base64 of 32 bytes is needed");
    s.seed = seed;
  }
  if (o.genesis !== undefined) {
    const g = typeof o.genesis === "string" ? base64(o.genesis) : undefined;
    if (!g || g.length === 0) throw bad("genesis: the base64 of genesis.pb is needed");
    s.genesis = g;
  }
  for (const f of ["onCredit", "onTask", "onError", "onProgress"] as const) {
    if (o[f] !== undefined && typeof o[f] !== "function") throw bad(`${f}: a function is needed`);
  }
  return s;
}

function flag(name: string, v: unknown): boolean {
  if (typeof v !== "boolean") throw bad(`${name}: true or false is needed`);
  return v;
}

function types(v: unknown): string[] {
  if (!Array.isArray(v)) throw bad("contribution.tasks: a list of task types is needed");
  return [...new Set(v.map((t) => {
    const name = alias[t as string] ?? t;
    if (!offered.includes(name as string)) throw bad(`contribution.tasks: ${String(t)} is none of ${offered.join(", ")}`);
    return name as string;
  }))];
}

/** A multiaddr as it is, or the origin of an https address. Plain http only on this machine. */
export function relay(v: unknown): string {
  if (typeof v !== "string" || v.length > 1024) throw bad("relays: an origin or a multiaddr is needed");
  if (v.startsWith("/")) return v;
  let url: URL;
  try {
    url = new URL(v);
  } catch {
    throw bad(`relays: ${v} is neither an origin nor a multiaddr`);
  }
  const loopback = /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && loopback)) throw bad(`relays: ${v} must be https`);
  if (url.username || url.password || (url.pathname !== "/" && url.pathname !== "") || url.search || url.hash) {
    throw bad(`relays: ${v} must be an origin, without path or query`);
  }
  return url.origin;
}

/** A task as the node Worker takes it. */
export interface Order {
  type?: string;
  module?: Uint8Array;
  input?: Uint8Array;
  /** JSON. */
  payload?: string;
}

export interface Job {
  tasks: Order[];
  redundancy: number;
  maxMicro: string;
  priority: number;
  timeoutMs: number;
  runTimeoutMs?: number;
  queueTimeoutMs?: number;
  fuelLimit?: string;
}

const priorities = { low: 0, normal: 1, high: 2 };

export function order(t: Task): Order {
  if (typeof t !== "object" || t === null) throw bad("submit: a task is needed");
  if ((t.type === undefined) === (t.module === undefined)) throw bad("submit: a task has either a type or a module");
  const o: Order = {};
  if (t.module !== undefined) {
    if (!(t.module instanceof Uint8Array)) throw bad("module: bytes are needed");
    if (t.input !== undefined && !(t.input instanceof Uint8Array)) throw bad("input: bytes are needed");
    if (t.payload !== undefined) throw bad("payload: a module takes input");
    o.module = t.module;
    o.input = t.input ?? new Uint8Array(0);
    return o;
  }
  o.type = alias[t.type!] ?? t.type!;
  if (!builtin.includes(o.type)) throw bad(`type: ${String(t.type)} is none of ${builtin.join(", ")}`);
  if ((t.input === undefined) === (t.payload === undefined)) throw bad("submit: a task has either a payload or input");
  if (t.input !== undefined) {
    if (!(t.input instanceof Uint8Array)) throw bad("input: bytes are needed");
    o.input = t.input;
  } else if (o.type === "text" && typeof t.payload === "string") {
    o.input = new TextEncoder().encode(t.payload); // the type's input is the text itself
  } else {
    o.payload = payloadJSON(t.payload, o.type);
  }
  return o;
}

export function policy(o: SubmitOptions = {}): Omit<Job, "tasks"> {
  const p = o.priority ?? "normal";
  const timeout = integer("timeout", o.timeout ?? 30_000, 100, 86_400_000);
  if (!Object.hasOwn(priorities, p)) throw bad(`priority: ${String(p)} is none of low, normal, high`);
  return {
    redundancy: integer("redundancy", o.redundancy ?? 1, 1, 7),
    maxMicro: toMicro(finite("maxCredits", o.maxCredits ?? 10, 1 / micro, 2 ** 53 / micro)),
    priority: priorities[p],
    timeoutMs: timeout,
    ...(o.runTimeout !== undefined && { runTimeoutMs: integer("runTimeout", o.runTimeout, 100, timeout) }),
    ...(o.queueTimeout !== undefined && { queueTimeoutMs: integer("queueTimeout", o.queueTimeout, 100, timeout) }),
    ...(o.fuelLimit !== undefined && { fuelLimit: String(integer("fuelLimit", o.fuelLimit, 1, 2 ** 52)) }),
  };
}

/** Deeper than any payload of a built-in type. */
const deepest = 16;

/**
 * JSON of a built-in type's payload; typed arrays become lists of numbers. What
 * JSON has no word for, such as NaN, is an error that names the field: as null
 * it would be computed with.
 */
export function payloadJSON(v: unknown, type: string): string {
  const refuse = (path: string, what: string) => new EdgeNetError("MALFORMED", `payload of ${type}: ${path}${path && ": "}${what}`);
  const value = (x: unknown, path: string, depth: number): unknown => {
    if (x === null || typeof x === "string" || typeof x === "boolean" || (typeof x === "number" && Number.isFinite(x))) return x;
    if (typeof x === "number") throw refuse(path, `${x} is not a finite number`);
    if (typeof x !== "object") throw refuse(path, `${x === undefined ? "undefined" : `a ${typeof x}`} cannot be sent`);
    if (depth > deepest) throw refuse(path, "is nested too deeply");
    if (Array.isArray(x) || (ArrayBuffer.isView(x) && !(x instanceof DataView))) {
      const items = x as ArrayLike<unknown>;
      const list = new Array<unknown>(items.length);
      for (let i = 0; i < items.length; i++) {
        const item = items[i];
        list[i] = typeof item === "number" && Number.isFinite(item) ? item : value(item, `${path}[${i}]`, depth + 1);
      }
      return list;
    }
    const proto: unknown = Object.getPrototypeOf(x);
    if (proto !== null && Object.getPrototypeOf(proto) !== null) throw refuse(path, "this cannot be sent");
    // A field that is undefined is one that is left out.
    const fields = Object.entries(x).filter(([, f]) => f !== undefined);
    return Object.fromEntries(fields.map(([k, f]) => [k, value(f, path === "" ? k : `${path}.${k}`, depth + 1)]));
  };
  return JSON.stringify(value(v, "", 0));
}

import { EdgeNetError } from "./api";
import { base64 } from "./check";

/** What `/.well-known/edgenet` of a relay says. */
export interface Known {
  network: string;
  genesis: Uint8Array;
  addrs: string[];
  /** How far the relay's clock is ahead of ours in milliseconds, where it tells. */
  ahead?: number;
}

const path = "/.well-known/edgenet";
const maxBytes = 1 << 20;
const maxAddrs = 64;
const alphabet = "abcdefghijklmnopqrstuvwxyz234567";

/** CIDv1, raw, sha2-256, in base32: the id of a network is that of its genesis. */
export async function cid(data: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data as BufferSource));
  const bytes = [1, 0x55, 0x12, 32, ...digest];
  let out = "b";
  let acc = 0;
  let bits = 0;
  for (const b of bytes) {
    acc = (acc << 8) | b;
    for (bits += 8; bits >= 5; bits -= 5) out += alphabet[(acc >> (bits - 5)) & 31];
    acc &= 31;
  }
  return bits > 0 ? out + alphabet[(acc << (5 - bits)) & 31] : out;
}

/** The first 8 bytes of the network id's digest, in hex. */
export async function id8(genesis: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", genesis as BufferSource));
  return Array.from(digest.subarray(0, 8), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** Checks an answer; throws RELAY_BAD. */
export async function parse(origin: string, body: unknown): Promise<Known> {
  const wrong = (what: string): EdgeNetError => new EdgeNetError("RELAY_BAD", `${origin}${path}: ${what}`);
  if (typeof body !== "object" || body === null) throw wrong("not an object");
  const { network, genesis, addrs } = body as Record<string, unknown>;
  if (typeof network !== "string" || typeof genesis !== "string" || !Array.isArray(addrs)) throw wrong("network, genesis or addrs is missing");
  const bytes = base64(genesis);
  if (!bytes || bytes.length === 0) throw wrong("genesis is not base64");
  if ((await cid(bytes)) !== network) throw wrong("network is not the id of genesis");
  if (addrs.length > maxAddrs || !addrs.every((a) => typeof a === "string" && a.startsWith("/") && a.length <= 1024)) {
    throw wrong("addrs are not multiaddrs");
  }
  return { network, genesis: bytes, addrs: addrs as string[] };
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Asks one relay. Throws RELAY_UNREACHABLE or RELAY_BAD. */
export async function ask(origin: string, get: Fetch, now: () => number, timeout = 10_000): Promise<Known> {
  let response: Response;
  let text: string;
  try {
    response = await get(origin + path, {
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
      redirect: "error",
      signal: AbortSignal.timeout(timeout),
    });
    if (response.ok) text = await limited(response);
    else text = "";
  } catch (e) {
    if (e instanceof EdgeNetError) throw e;
    throw new EdgeNetError("RELAY_UNREACHABLE", `${origin}: ${(e as Error).message}`, { cause: e });
  }
  if (response.status >= 500) throw new EdgeNetError("RELAY_UNREACHABLE", `${origin}${path}: status ${response.status}`);
  if (!response.ok) throw new EdgeNetError("RELAY_BAD", `${origin}${path}: status ${response.status}`);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new EdgeNetError("RELAY_BAD", `${origin}${path}: not JSON`);
  }
  const known = await parse(origin, body);
  // Other origins see the header only when the relay exposes it.
  const date = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(date)) known.ahead = date - now();
  return known;
}

async function limited(response: Response): Promise<string> {
  const reader = response.body!.getReader();
  const decode = new TextDecoder();
  let text = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decode.decode();
    size += value.length;
    if (size > maxBytes) {
      void reader.cancel();
      throw new EdgeNetError("RELAY_BAD", `${response.url}: more than ${maxBytes} bytes`);
    }
    text += decode.decode(value, { stream: true });
  }
}

/** What all relays together say. */
export interface Found {
  /** Of the network that is used; undefined when no origin answered. */
  genesis?: Uint8Array;
  network?: string;
  /** Multiaddrs, the given ones included, without repetition. */
  addrs: string[];
  /** One per relay that was of no use. */
  errors: EdgeNetError[];
  ahead?: number;
}

/**
 * Asks every origin among the relays. The first in the list that answers
 * names the network, unless one is named already; others of it add addresses.
 */
export async function find(relays: string[], get: Fetch, now: () => number, network?: string): Promise<Found> {
  const origins = relays.filter((r) => !r.startsWith("/"));
  const found: Found = { addrs: relays.filter((r) => r.startsWith("/")), errors: [] };
  if (network !== undefined) found.network = network;
  const answers = await Promise.allSettled(origins.map((o) => ask(o, get, now)));
  answers.forEach((a, i) => {
    if (a.status === "rejected") {
      found.errors.push(a.reason as EdgeNetError);
      return;
    }
    const k = a.value;
    found.network ??= k.network;
    if (k.network !== found.network) {
      found.errors.push(new EdgeNetError("RELAY_NETWORK", `${origins[i]}: it serves network ${k.network}, not ${found.network}`));
      return;
    }
    found.genesis ??= k.genesis;
    if (k.ahead !== undefined) found.ahead ??= k.ahead;
    found.addrs.push(...k.addrs);
  });
  found.addrs = [...new Set(found.addrs)];
  return found;
}

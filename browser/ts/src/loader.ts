import { EdgeNetError } from "./api";
import { ofCompile } from "./errors";

/** A file of this package. */
export interface Asset {
  name: string;
  /** Hex SHA-256 of the file as it is, not compressed. */
  sha256: string;
  /** Bytes, not compressed. */
  size: number;
}

const cacheName = "edgenet";

export async function sha256(data: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data as BufferSource));
  return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}

function join(chunks: Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(size);
  let at = 0;
  for (const c of chunks) {
    all.set(c, at);
    at += c.length;
  }
  return all;
}

export interface Loading {
  url: string;
  asset: Asset;
  progress?: (loaded: number, total: number) => void;
  /** Something went wrong that does not stop the node. */
  warn?: (e: EdgeNetError) => void;
}

/**
 * The program from the cache, being compiled, or undefined. Engines compile a
 * stored response faster than bytes, and meanwhile its hash is compared.
 */
async function cached(o: Loading): Promise<{ module: Promise<WebAssembly.Module> } | undefined> {
  try {
    const hit = await (await caches.open(cacheName)).match(o.url);
    if (!hit) return undefined;
    const module = WebAssembly.compileStreaming(hit.clone());
    module.catch(() => {}); // who awaits it hears of it
    if ((await sha256(new Uint8Array(await hit.arrayBuffer()))) === o.asset.sha256) return { module };
    await (await caches.open(cacheName)).delete(o.url);
  } catch {
    // blocked or broken: the network has it too
  }
  return undefined;
}

async function keep(o: Loading, bytes: Uint8Array): Promise<void> {
  try {
    const cache = await caches.open(cacheName);
    await cache.put(o.url, new Response(bytes as BodyInit, { headers: { "content-type": "application/wasm" } }));
    // Names change with the content: what has another name is of an older version.
    for (const old of await cache.keys()) if (old.url !== o.url) await cache.delete(old);
  } catch (e) {
    if ((e as Error).name === "QuotaExceededError") {
      o.warn?.(new EdgeNetError("QUOTA", "no room to keep the node's program: it is loaded again at the next visit", { cause: e }));
    }
  }
}

/**
 * The compiled program: from the cache, or from the network while it arrives.
 * Nothing is returned before its hash was compared.
 */
export async function load(o: Loading): Promise<WebAssembly.Module> {
  const { asset } = o;
  const have = await cached(o);
  if (have) {
    o.progress?.(asset.size, asset.size);
    return have.module.catch((e) => {
      throw ofCompile(e);
    });
  }
  let response: Response;
  try {
    response = await fetch(o.url, { credentials: "omit", mode: "cors" });
  } catch (e) {
    throw new EdgeNetError("ASSET_UNREACHABLE", `${o.url}: ${(e as Error).message}`, { cause: e });
  }
  if (!response.ok || !response.body) throw new EdgeNetError("ASSET_UNREACHABLE", `${o.url}: status ${response.status}`);

  const chunks: Uint8Array[] = [];
  let loaded = 0;
  let failed: unknown;
  const counted = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, to) {
        loaded += chunk.length;
        if (loaded > asset.size) throw new EdgeNetError("ASSET_MISMATCH", `${o.url}: longer than it was built`);
        chunks.push(chunk);
        o.progress?.(loaded, asset.size);
        to.enqueue(chunk);
      },
    }),
  );
  const module = await WebAssembly.compileStreaming(new Response(counted, { headers: { "content-type": "application/wasm" } })).catch((e: unknown) => {
    failed = e;
    return undefined;
  });
  if (failed instanceof EdgeNetError) throw failed;
  if (loaded === asset.size) {
    const bytes = join(chunks, loaded);
    if ((await sha256(bytes)) === asset.sha256) {
      if (!module) throw ofCompile(failed);
      await keep(o, bytes);
      return module;
    }
  } else if (failed && loaded < asset.size && ofCompile(failed).code === "CSP_WASM") {
    throw ofCompile(failed);
  } else if (failed instanceof TypeError) {
    throw new EdgeNetError("ASSET_UNREACHABLE", `${o.url}: ${failed.message}`, { cause: failed });
  }
  throw new EdgeNetError("ASSET_MISMATCH", `${o.url}: this is not the program that belongs to this version`);
}

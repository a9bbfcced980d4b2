// The node's seed, at rest only as ciphertext under a key that scripts can use
// and not read. Other scripts of the origin can use it too: see docs/browser.md.

const database = "edgenet-keys";
const table = "keys";

interface Sealed {
  iv: Uint8Array;
  data: ArrayBuffer;
}

function request<T>(r: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error ?? new Error("IndexedDB failed"));
  });
}

export class Keys {
  private constructor(private readonly db: IDBDatabase) {}

  /** Throws when storage is blocked. */
  static async open(): Promise<Keys> {
    const r = indexedDB.open(database, 1);
    r.onupgradeneeded = () => r.result.createObjectStore(table);
    return new Keys(await request(r));
  }

  close(): void {
    this.db.close();
  }

  get(name: string): Promise<unknown> {
    return request(this.db.transaction(table).objectStore(table).get(name));
  }

  /** Resolves when the value is on disk, as far as the browser says. */
  put(values: Record<string, unknown>): Promise<void> {
    const t = this.db.transaction(table, "readwrite", { durability: "strict" });
    for (const [name, v] of Object.entries(values)) t.objectStore(table).put(v, name);
    return new Promise((resolve, reject) => {
      t.oncomplete = () => resolve();
      t.onabort = t.onerror = () => reject(t.error ?? new Error("IndexedDB failed"));
    });
  }

  /** The seed, made at the first call. */
  async seed(): Promise<Uint8Array> {
    const key = (await this.get("wrap")) as CryptoKey | undefined;
    const sealed = (await this.get("seed")) as Sealed | undefined;
    if (key && sealed) {
      return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: sealed.iv as BufferSource }, key, sealed.data));
    }
    const seed = crypto.getRandomValues(new Uint8Array(32));
    const wrap = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const data = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, wrap, seed);
    await this.put({ wrap, seed: { iv, data } satisfies Sealed });
    return seed;
  }
}

/** Names the ledger's database: another identity or network has another one. */
export async function databaseName(network: string, seed: Uint8Array): Promise<string> {
  const text = new TextEncoder().encode("edgenet database\n");
  const both = new Uint8Array(text.length + seed.length);
  both.set(text);
  both.set(seed, text.length);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", both));
  return `edgenet-${network}-${Array.from(digest.subarray(0, 6), (b) => b.toString(16).padStart(2, "0")).join("")}`;
}

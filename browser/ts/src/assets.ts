import { EdgeNetError } from "./api";
import type { Asset } from "./loader";
import type { NodeWorker } from "./supervisor";
import type { FromNode } from "./wires";

/** Files of this package that belong together; the build fills it in. */
export interface Manifest {
  version: string;
  nodeWorker: Asset;
  taskWorker: Asset;
  wasm: Asset;
}

/** Script addresses that a Worker of this page may have. */
export class Assets {
  private readonly blobs = new Map<string, Promise<string>>();

  constructor(
    readonly manifest: Manifest,
    /** Ends with a slash. */
    readonly base: string,
  ) {}

  url(a: Asset): string {
    return new URL(a.name, this.base).href;
  }

  /**
   * A Worker's script must be of the page's origin. One from elsewhere is
   * fetched, compared with its hash and handed over as a blob.
   */
  script(a: Asset): Promise<string> {
    const url = this.url(a);
    if (new URL(url).origin === location.origin) return Promise.resolve(url);
    let blob = this.blobs.get(url);
    if (!blob) {
      blob = this.fetch(a, url);
      this.blobs.set(url, blob);
      blob.catch(() => this.blobs.delete(url));
    }
    return blob;
  }

  private async fetch(a: Asset, url: string): Promise<string> {
    const bytes = a.sha256.match(/../g)!.map((h) => parseInt(h, 16));
    try {
      const response = await fetch(url, { mode: "cors", credentials: "omit", integrity: `sha256-${btoa(String.fromCharCode(...bytes))}` });
      if (!response.ok) throw new Error(`status ${response.status}`);
      return URL.createObjectURL(new Blob([await response.arrayBuffer()], { type: "text/javascript" }));
    } catch (e) {
      throw new EdgeNetError("ASSET_UNREACHABLE", `${url}: ${(e as Error).message}`, { cause: e });
    }
  }

  /** Starts the node Worker. */
  async spawn(): Promise<NodeWorker> {
    const url = await this.script(this.manifest.nodeWorker);
    let refused = false;
    const violation = (e: SecurityPolicyViolationEvent): void => {
      refused ||= /^(worker|child|script|default)-src/.test(e.effectiveDirective);
    };
    document.addEventListener("securitypolicyviolation", violation);
    const error = (cause: unknown): EdgeNetError =>
      refused
        ? new EdgeNetError("CSP_WORKER", "the page's Content-Security-Policy refuses the node's Worker: allow its address in worker-src", { cause })
        : new EdgeNetError("ASSET_UNREACHABLE", `${url}: the node's Worker does not start`, { cause });
    let worker: Worker;
    try {
      worker = new Worker(url, { name: "edgenet node" });
    } catch (e) {
      document.removeEventListener("securitypolicyviolation", violation);
      refused ||= (e as Error).name === "SecurityError";
      throw error(e);
    }
    const n: NodeWorker = {
      post: (m) => worker.postMessage(m),
      terminate: () => worker.terminate(),
      onmessage: () => {},
      onfail: () => {},
    };
    let alive = false;
    worker.onmessage = (e: MessageEvent<FromNode>) => {
      if (!alive) document.removeEventListener("securitypolicyviolation", violation);
      alive = true;
      n.onmessage(e.data);
    };
    worker.onerror = (e) => {
      e.preventDefault();
      if (alive) {
        n.onfail(new EdgeNetError("NODE_CRASHED", e.message || "its Worker failed"));
        return;
      }
      // The report of a refusal comes as a task of its own.
      setTimeout(() => {
        document.removeEventListener("securitypolicyviolation", violation);
        n.onfail(error(e));
      }, 50);
    };
    return n;
  }
}

import { type API, EdgeNetError, type EdgeNetNode, type InitOptions } from "./api";
import { type Manifest, Assets } from "./assets";
import { settings } from "./check";
import { Consents } from "./consent";
import { Page } from "./page";

export type * from "./api";
export { EdgeNetError };

declare const MANIFEST: Manifest;

const script = typeof document === "undefined" ? undefined : (document.currentScript as HTMLScriptElement | null)?.src;
const home = script || import.meta.url;

/** Milliseconds for which a click counts in browsers that do not tell. */
const fresh = 5000;
let lastGesture = -Infinity;

if (typeof window !== "undefined") {
  for (const name of ["pointerdown", "keydown"]) {
    addEventListener(name, (e) => e.isTrusted && (lastGesture = performance.now()), { passive: true, capture: true });
  }
  addEventListener("storage", () => consent.refresh());
  // From the back/forward cache a page comes without its node.
  addEventListener("pageshow", (e) => {
    if (e.persisted && page?.left && !parted && last) void reopen().catch((error: EdgeNetError) => last?.onError?.(error));
  });
}

let page: Page | undefined;
let last: InitOptions | undefined;
let parted = false; // by disconnect, not by the back/forward cache
let opening = false;
let rebind: ((p: Page) => void) | undefined; // of the node that init returned last

const consent = new Consents({
  shelf: () => localStorage,
  now: () => Date.now(),
  gesture: () => navigator.userActivation?.isActive ?? performance.now() - lastGesture < fresh,
  framed: () => {
    try {
      return window.top !== window && window.top?.location.origin !== location.origin;
    } catch {
      return true; // another site's frame may not even ask
    }
  },
  changed: () => page?.tellConsent(),
  blocked: () => page?.report(new EdgeNetError("STORAGE_BLOCKED", "storage is blocked: consent lasts as long as this page")),
});

function here(): Page {
  if (!page || page.left) throw new EdgeNetError("NOT_INITIALISED", "call EdgeNet.init first");
  return page;
}

async function open(options: InitOptions): Promise<Page> {
  const checked = settings(options);
  let base: string;
  try {
    base = new URL("./", new URL(options.assets ?? home, location.href)).href;
  } catch {
    throw new EdgeNetError("BAD_CONFIG", "assets: an address is needed");
  }
  return Page.open(options, checked, new Assets(MANIFEST, base), consent);
}

async function reopen(): Promise<void> {
  const p = await open(last!);
  page = p;
  rebind!(p);
}

export const EdgeNet: API = {
  version: MANIFEST.version,
  consent,

  async init(options): Promise<EdgeNetNode> {
    if (opening || (page && !page.left)) throw new EdgeNetError("ALREADY_INITIALISED", "EdgeNet.init was called before; disconnect first");
    opening = true;
    try {
      const p = await open(options);
      let own = p;
      page = p;
      last = options;
      parted = false;
      rebind = (again) => (own = again);
      return {
        stats: () => own.stats(),
        pause: () => own.pause(),
        resume: () => own.resume(),
        disconnect: () => {
          if (own === page) parted = true;
          return own.disconnect();
        },
        ready: () => own.ready(),
        uniqueness: () => own.uniqueness(),
      };
    } finally {
      opening = false;
    }
  },

  async submit(task) {
    const [r] = await here().submit([task], {});
    if (r!.error) throw r!.error;
    return r!;
  },

  async submitBatch(tasks, options = {}) {
    return here().submit(tasks, options);
  },

  async quote(tasks) {
    return here().quote(Array.isArray(tasks) ? tasks : [tasks]);
  },
};

export default EdgeNet;

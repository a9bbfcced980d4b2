import { EdgeNetError } from "./api";

/** An error as it crosses between Workers and tabs. */
export interface Wire {
  code: string;
  message: string;
}

/** Makes any thrown value one of ours. What the wasm side rejects with has code and message. */
export function typed(e: unknown, code = "INTERNAL"): EdgeNetError {
  if (e instanceof EdgeNetError) return e;
  if (typeof e === "object" && e !== null) {
    const { code: c, message, name } = e as { code?: unknown; message?: unknown; name?: unknown };
    if (name === "QuotaExceededError") code = "QUOTA";
    else if (typeof c === "string" && c !== "") code = c;
    if (typeof message === "string") return new EdgeNetError(code, message, { cause: e });
  }
  return new EdgeNetError(code, String(e), { cause: e });
}

export function wire(e: unknown): Wire {
  const { code, message } = typed(e);
  return { code, message };
}

/** Names what a failed compile was: a policy, or a browser that cannot. */
export function ofCompile(e: unknown): EdgeNetError {
  const text = String((e as Error | undefined)?.message ?? e);
  if (/content.security.policy|unsafe-eval|blocked by csp|disallowed by embedder/i.test(text)) {
    return new EdgeNetError("CSP_WASM", "the page's Content-Security-Policy refuses WebAssembly: allow 'wasm-unsafe-eval' in script-src", { cause: e });
  }
  return new EdgeNetError("UNSUPPORTED", `this browser cannot compile the node: ${text}`, { cause: e });
}

import { EdgeNetError, type Result } from "./api";
import type { GoResult } from "./boundary";
import { toCredits } from "./check";
import type { Wire } from "./errors";

/** A result as it crosses to the page, which makes an EdgeNetError of the error. */
export type Outcome = Omit<Result, "error"> & { error?: Wire };

/** The type's own fields beside those that every result has. */
export function outcome(r: GoResult): Outcome {
  let own: Record<string, unknown> = {};
  if (r.json !== undefined && r.json !== "") {
    const v: unknown = JSON.parse(r.json);
    own = typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Record<string, unknown>) : { value: v };
  }
  const out: Outcome = {
    ...own, // first: a worker's output must not pass for what was verified here
    cost: toCredits(r.costMicro),
    workers: [...r.workers],
    verified: r.verified,
    receipts: [...r.receipts],
    status: r.status,
    output: r.output,
    log: r.log,
    fuel: Number(r.fuel),
  };
  delete out.receipt;
  delete out.error;
  if (r.receipts[0]) out.receipt = r.receipts[0];
  if (r.error) out.error = { code: r.error.code, message: r.error.message };
  return out;
}

/** Makes what a page gets. */
export function revive(o: Outcome): Result {
  const { error, ...rest } = o;
  return error ? ({ ...rest, error: new EdgeNetError(error.code, error.message) } as Result) : (rest as Result);
}

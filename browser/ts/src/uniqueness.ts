// A hash that is equal for tabs on like machines and says nothing else: it is
// salted with network, origin and week, so that it cannot follow anybody.

/** Traits that millions of machines share; each is rounded to a few values. */
export interface Traits {
  cores: number;
  /** Gigabytes, as the browser rounds them; 0 when it does not tell. */
  memory: number;
  /** Of the screen, in CSS pixels. */
  width: number;
  height: number;
  platform: string;
}

const week = 604_800_000;

export function coarse(t: Traits): string {
  const power = (v: number): number => (v > 0 ? 2 ** Math.round(Math.log2(v)) : 0);
  const hundreds = (v: number): number => Math.round(v / 200) * 200;
  return [power(t.cores), power(t.memory), hundreds(Math.max(t.width, t.height)), hundreds(Math.min(t.width, t.height)), t.platform].join("|");
}

export async function uniqueness(t: Traits, network: string, origin: string, now: number): Promise<string> {
  const text = ["edgenet uniqueness", network, origin, Math.floor(now / week), coarse(t)].join("\n");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}

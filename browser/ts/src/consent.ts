import type { Consent, ConsentState, ConsentTerms } from "./api";
import { EdgeNetError } from "./api";
import { finite } from "./check";

const day = 86_400_000;

/** A record from the future is of a clock that was wrong by more than this. */
const skew = day;

/** Where the record is kept, per origin. */
export const consentKey = "edgenet.consent";

/** The part of Storage that is used. */
export interface Shelf {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

interface Record {
  version: 1;
  granted: number;
  expires: number;
  cpuLimit: number;
}

export const none: ConsentState = { given: false, expires: 0, cpuLimit: 0 };

/** Reads a record; anything but a valid one of now is no consent. */
export function read(text: string | null, now: number): ConsentState {
  if (text === null) return none;
  let r: Partial<Record>;
  try {
    r = JSON.parse(text) as Partial<Record>;
  } catch {
    return none;
  }
  const { granted, expires, cpuLimit } = r ?? {};
  if (r?.version !== 1 || !num(granted) || !num(expires) || !num(cpuLimit)) return none;
  if (cpuLimit <= 0 || cpuLimit > 1 || expires > granted + 365 * day) return none;
  // With a clock set back, an expired consent must not come to life again.
  if (now >= expires || now < granted - skew) return none;
  return { given: true, expires, cpuLimit };
}

const num = (v: unknown): v is number => typeof v === "number" && Number.isFinite(v);

export function write(terms: ConsentTerms, now: number): Record {
  const days = finite("days", terms.days ?? 30, 1, 365);
  const cpuLimit = finite("cpuLimit", terms.cpuLimit ?? 0.3, 0.01, 1);
  return { version: 1, granted: now, expires: now + days * day, cpuLimit };
}

/** What consent needs of a page. */
export interface Place {
  shelf(): Shelf; // throws when storage is blocked
  now(): number;
  /** The visitor clicked or typed a moment ago. */
  gesture(): boolean;
  /** In a frame of another site. */
  framed(): boolean;
  /** After a change that this tab made. */
  changed(state: ConsentState): void;
  blocked(): void;
}

/** Consent of one origin. Without storage it lasts as long as the page. */
export class Consents implements Consent {
  private memory: string | null = null;
  private readonly watchers = new Set<(s: ConsentState) => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private last = "";

  constructor(private readonly place: Place) {}

  state(): ConsentState {
    if (this.place.framed()) return none;
    let text = this.memory;
    try {
      text = this.place.shelf().getItem(consentKey) ?? this.memory;
    } catch {
      // blocked: what this page knows
    }
    return read(text, this.place.now());
  }

  grant(terms: ConsentTerms = {}): ConsentState {
    if (this.place.framed()) throw new EdgeNetError("CONSENT_IN_FRAME", "a frame of another site cannot ask for consent");
    if (!this.place.gesture()) {
      throw new EdgeNetError("CONSENT_NEEDS_GESTURE", "call consent.grant while a click or a key of the visitor is being handled");
    }
    const text = JSON.stringify(write(terms, this.place.now()));
    this.memory = null;
    try {
      this.place.shelf().setItem(consentKey, text);
    } catch {
      this.memory = text;
      this.place.blocked();
    }
    this.tell();
    return this.state();
  }

  request(options: ConsentTerms & ({ element: Element; signal?: AbortSignal } | { click: Event })): Promise<ConsentState> {
    const accept = (e: Event): ConsentState => {
      // A script can dispatch a click, but not a trusted one.
      if (!e.isTrusted) throw new EdgeNetError("CONSENT_NEEDS_GESTURE", "this click does not come from the visitor");
      return this.grant(options);
    };
    return new Promise((resolve, reject) => {
      if ("click" in options) {
        resolve(accept(options.click));
        return;
      }
      const { element, signal } = options;
      if (!(element instanceof Element)) throw new EdgeNetError("BAD_CONFIG", "element: an element of the page is needed");
      const clicked = (e: Event): void => {
        try {
          const state = accept(e);
          end();
          resolve(state);
        } catch (error) {
          if ((error as EdgeNetError).code === "CONSENT_NEEDS_GESTURE") return; // wait for a real one
          end();
          reject(error as EdgeNetError);
        }
      };
      const aborted = (): void => {
        end();
        reject(signal!.reason);
      };
      const end = (): void => {
        element.removeEventListener("click", clicked);
        signal?.removeEventListener("abort", aborted);
      };
      if (signal?.aborted) {
        aborted();
        return;
      }
      element.addEventListener("click", clicked);
      signal?.addEventListener("abort", aborted);
    });
  }

  revoke(): void {
    this.memory = null;
    try {
      this.place.shelf().removeItem(consentKey);
    } catch {
      // nothing was kept
    }
    this.tell();
  }

  watch(changed: (state: ConsentState) => void): () => void {
    this.watchers.add(changed);
    this.arm(this.state());
    return () => this.watchers.delete(changed);
  }

  /** Tells everybody here and, through the place, other tabs. */
  private tell(): void {
    this.place.changed(this.state());
    this.refresh();
  }

  /** Another tab changed the record, or it expired. */
  refresh(): void {
    const s = this.state();
    this.arm(s);
    const text = JSON.stringify(s);
    if (text === this.last) return;
    this.last = text;
    for (const w of this.watchers) w(s);
  }

  private arm(s: ConsentState): void {
    clearTimeout(this.timer);
    if (!s.given) return;
    // A timer holds 31 bits of milliseconds; and it may be late after a sleep.
    this.timer = setTimeout(() => this.refresh(), Math.min(s.expires - this.place.now(), 3_600_000));
    (this.timer as { unref?: () => void }).unref?.();
  }
}

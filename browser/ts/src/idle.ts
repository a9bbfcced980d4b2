// When a tab works, and how much: a pure function of signals and time.

export type Pressure = "nominal" | "fair" | "serious" | "critical";

/** What all tabs of an origin know together. Times are of the caller's clock, in milliseconds. */
export interface Signals {
  consent: boolean;
  /** The page or another tab called pause(). */
  stopped: boolean;
  online: boolean;
  saveData: boolean;
  /** A tab has the focus. */
  focused: boolean;
  /** Last key, pointer or wheel event in any tab. */
  lastInput: number;
  /** Undefined where the browser does not tell. */
  pressure?: Pressure;
  battery?: { charging: boolean; level: number };
}

export interface Manners {
  focusRequired: boolean;
  minIdleTime: number;
  respectBattery: boolean;
}

/** A share of the CPU limit from 0 to 1, and why it is not 1. */
export interface Verdict {
  share: number;
  reason: string;
}

/** Milliseconds for which things must look better before more work is taken. */
export const calm = 2000;

/** The same after the machine was under pressure. */
export const relief = 10_000;

const batteryLow = 0.3;
const batteryBack = 0.35;

/**
 * Goes down at once and up only after things were better for a while, so that
 * a signal at its edge does not start and stop work all the time.
 */
export class Gate {
  private share = 0;
  private reason = "";
  private first = true;
  private better = -1; // since when a higher share was possible; -1 is not now
  private wanted: boolean | undefined; // consent and not stopped, last time
  private low = false;
  private strained = -Infinity; // last time that pressure was high

  constructor(private readonly manners: Manners) {}

  update(s: Signals, now: number): Verdict {
    const target = this.target(s, now);
    // What the visitor asked for holds at once, in both directions.
    const wanted = s.consent && !s.stopped;
    const asked = this.first || wanted !== this.wanted;
    this.wanted = wanted;
    this.first = false;
    if (target.share <= this.share || asked) {
      this.share = target.share;
      this.reason = target.reason;
      this.better = -1;
    } else {
      if (this.better < 0) this.better = now;
      if (now - this.better >= calm) {
        this.share = target.share;
        this.reason = target.reason;
        this.better = -1;
      }
    }
    return { share: this.share, reason: this.reason };
  }

  private target(s: Signals, now: number): Verdict {
    const no = (reason: string): Verdict => ({ share: 0, reason });
    if (s.pressure === "serious" || s.pressure === "critical") this.strained = now;
    if (s.battery && this.manners.respectBattery && !s.battery.charging) {
      this.low = s.battery.level <= (this.low ? batteryBack : batteryLow);
    } else {
      this.low = false;
    }
    if (!s.consent) return no("no consent");
    if (s.stopped) return no("paused by the page");
    if (!s.online) return no("offline");
    if (s.saveData) return no("data saver is on");
    if (this.manners.focusRequired && !s.focused) return no("no tab of this site has the focus");
    if (now - s.lastInput < this.manners.minIdleTime) return no("the visitor is active");
    if (s.pressure === "critical") return no("the machine is overloaded");
    if (this.low) return no("battery is low");
    if (now - this.strained < relief) return { share: 0.5, reason: "the machine is busy: half the CPU" };
    if (s.battery && this.manners.respectBattery && !s.battery.charging) return { share: 0.5, reason: "on battery: half the CPU" };
    return { share: 1, reason: "" };
  }
}

/** What one tab tells about itself; times by the wall clock. */
export interface Presence {
  id: string;
  focused: boolean;
  online: boolean;
  saveData: boolean;
  lastInput: number;
  pressure?: Pressure;
  battery?: { charging: boolean; level: number };
  /** The tab goes away. */
  gone?: boolean;
}

/** A tab that says nothing for this long is not counted as focused. */
const stale = 90_000;

/** Joins what tabs tell. */
export class Presences {
  private readonly tabs = new Map<string, Presence & { heard: number }>();
  private lastInput = -Infinity;
  private device: Pick<Presence, "pressure" | "battery" | "saveData" | "online"> = { saveData: false, online: true };

  hear(p: Presence, now: number): void {
    if (p.gone) this.tabs.delete(p.id);
    else this.tabs.set(p.id, { ...p, heard: now });
    // A tab whose clock runs ahead must not keep the others from working.
    this.lastInput = Math.max(this.lastInput, Math.min(p.lastInput, now));
    const { pressure, battery } = p;
    this.device = {
      saveData: p.saveData,
      online: p.online,
      ...((pressure ?? this.device.pressure) && { pressure: pressure ?? this.device.pressure! }),
      ...((battery ?? this.device.battery) && { battery: battery ?? this.device.battery! }),
    };
  }

  /** After the machine slept, old signals say nothing. */
  thaw(now: number): void {
    this.lastInput = now;
    delete this.device.pressure;
  }

  signals(now: number): Omit<Signals, "consent" | "stopped"> {
    // The clock was set back: what happened later than now did not.
    if (this.lastInput > now) this.lastInput = now;
    let focused = false;
    for (const [id, t] of this.tabs) {
      if (now - t.heard > stale) this.tabs.delete(id);
      else focused ||= t.focused;
    }
    return { ...this.device, focused, lastInput: this.lastInput };
  }
}

// What a tab can tell about its visitor and its machine. Each source is used
// where the browser has it; a browser that tells nothing is taken as idle.
import type { Presence, Pressure } from "./idle";

interface Battery extends EventTarget {
  charging: boolean;
  level: number;
}

interface PressureRecord {
  state: Pressure;
}

interface Extras {
  getBattery?: () => Promise<Battery>;
  connection?: EventTarget & { saveData?: boolean };
}

/** Milliseconds between two messages about input. */
const inputEvery = 1000;

/** Milliseconds between messages while nothing happens. */
const heartbeat = 30_000;

const inputs = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;

/** Tells the listener what changed, until it is ended. */
export class Signals {
  private lastInput = 0;
  private told = -Infinity;
  private pressure: Pressure | undefined;
  private battery: Battery | undefined;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly id: string,
    private readonly listener: (p: Presence) => void,
  ) {
    const input = (): void => {
      this.lastInput = Date.now();
      if (this.lastInput - this.told >= inputEvery || this.lastInput < this.told) this.tell();
    };
    const tell = (): void => this.tell();
    for (const name of inputs) this.on(window, name, input, { passive: true, capture: true });
    for (const name of ["focus", "blur", "online", "offline"]) this.on(window, name, tell);
    for (const name of ["visibilitychange", "freeze", "resume"]) this.on(document, name, tell);
    const timer = setInterval(tell, heartbeat);
    this.ends.push(() => clearInterval(timer));

    const extras = navigator as unknown as Extras;
    if (extras.connection) this.on(extras.connection, "change", tell);
    void extras.getBattery?.().then(
      (b) => {
        this.battery = b;
        for (const name of ["chargingchange", "levelchange"]) this.on(b, name, tell);
        this.tell();
      },
      () => {}, // the site's policy forbids it
    );
    this.observe();
    this.tell();
  }

  private observe(): void {
    const Observer = (globalThis as { PressureObserver?: new (f: (r: PressureRecord[]) => void) => { observe(source: "cpu", o: object): Promise<void>; disconnect(): void } })
      .PressureObserver;
    if (!Observer) return;
    const o = new Observer((records) => {
      const { state } = records[records.length - 1]!;
      if (state === this.pressure) return;
      this.pressure = state;
      this.tell();
    });
    o.observe("cpu", { sampleInterval: 2000 }).catch(() => {}); // the site's policy forbids it
    this.ends.push(() => o.disconnect());
  }

  private on(target: EventTarget, name: string, f: () => void, options?: AddEventListenerOptions): void {
    target.addEventListener(name, f, options);
    this.ends.push(() => target.removeEventListener(name, f, options));
  }

  now(): Presence {
    const { connection } = navigator as unknown as Extras;
    return {
      id: this.id,
      focused: document.visibilityState === "visible" && document.hasFocus(),
      online: navigator.onLine,
      saveData: connection?.saveData ?? false,
      lastInput: this.lastInput,
      ...(this.pressure && { pressure: this.pressure }),
      ...(this.battery && { battery: { charging: this.battery.charging, level: this.battery.level } }),
    };
  }

  private tell(): void {
    this.told = Date.now();
    this.listener(this.now());
  }

  end(): void {
    for (const e of this.ends.splice(0)) e();
  }
}

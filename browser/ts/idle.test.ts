import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { calm, Gate, type Manners, Presences, relief, type Signals } from "./src/idle";

const manners: Manners = { focusRequired: false, minIdleTime: 5000, respectBattery: true };
const quiet: Signals = { consent: true, stopped: false, online: true, saveData: false, focused: true, lastInput: -Infinity };

/** A gate with a clock of its own. */
class Clock {
  t = 1_000_000;
  readonly gate: Gate;
  constructor(m: Partial<Manners> = {}) {
    this.gate = new Gate({ ...manners, ...m });
  }
  share(s: Partial<Signals>, ms = 0): number {
    this.t += ms;
    return this.gate.update({ ...quiet, ...s }, this.t).share;
  }
  reason(s: Partial<Signals>, ms = 0): string {
    this.t += ms;
    return this.gate.update({ ...quiet, ...s }, this.t).reason;
  }
}

test("it works when nothing speaks against it", () => {
  deepEqual(new Gate(manners).update(quiet, 1e6), { share: 1, reason: "" });
});

for (const [name, s, m] of [
  ["no consent", { consent: false }, {}],
  ["paused by the page", { stopped: true }, {}],
  ["offline", { online: false }, {}],
  ["data saver is on", { saveData: true }, {}],
  ["no tab of this site has the focus", { focused: false }, { focusRequired: true }],
  ["the machine is overloaded", { pressure: "critical" }, {}],
  ["battery is low", { battery: { charging: false, level: 0.3 } }, {}],
] as [string, Partial<Signals>, Partial<Manners>][]) {
  test(`it stops at once: ${name}`, () => {
    const c = new Clock(m);
    equal(c.share({}), 1);
    equal(c.share(s, 1), 0);
    equal(c.reason(s), name);
  });
}

test("focus matters only when it is required", () => equal(new Clock().share({ focused: false }), 1));

test("input stops it for minIdleTime and a calm moment", () => {
  const c = new Clock();
  c.share({});
  const lastInput = c.t + 10;
  equal(c.share({ lastInput }, 10), 0);
  equal(c.reason({ lastInput }), "the visitor is active");
  equal(c.share({ lastInput }, 4999), 0);
  equal(c.share({ lastInput }, 1), 0);
  equal(c.share({ lastInput }, calm - 1), 0);
  equal(c.share({ lastInput }, 1), 1);
});

test("a signal at its edge does not start and stop it all the time", () => {
  const c = new Clock();
  c.share({});
  let changes = 0;
  let last = 1;
  for (let i = 0; i < 100; i++) {
    const share = c.share({ online: i % 2 === 0 }, calm / 2);
    if (share !== last) changes++;
    last = share;
  }
  equal(changes, 1);
});

test("consent and resume need no calm moment", () => {
  const c = new Clock();
  equal(c.share({ consent: false }), 0);
  equal(c.share({ consent: true }, 1), 1);
  equal(c.share({ stopped: true }, 1), 0);
  equal(c.share({ stopped: false }, 1), 1);
});

test("pressure halves it until the machine had relief", () => {
  const c = new Clock();
  c.share({ pressure: "fair" });
  equal(c.share({ pressure: "serious" }, 10), 0.5);
  equal(c.share({ pressure: "critical" }, 10), 0);
  equal(c.share({ pressure: "nominal" }, 10), 0);
  equal(c.share({ pressure: "nominal" }, calm), 0.5);
  equal(c.share({ pressure: "nominal" }, relief - calm - 20), 0.5);
  c.share({ pressure: "nominal" }, 100);
  equal(c.share({ pressure: "nominal" }, calm), 1);
});

test("battery halves it, then stops it, and comes back later than it went", () => {
  const c = new Clock();
  const at = (level: number, ms = 0): number => c.share({ battery: { charging: false, level } }, ms);
  equal(at(0.9), 0.5);
  equal(at(0.31, 10), 0.5);
  equal(at(0.3, 10), 0);
  equal(at(0.34, 10), 0);
  equal(at(0.34, 10 * calm), 0);
  at(0.36, 10);
  equal(at(0.36, calm), 0.5);
  c.share({ battery: { charging: true, level: 0.1 } }, 10);
  equal(c.share({ battery: { charging: true, level: 0.1 } }, calm), 1);
  equal(new Clock({ respectBattery: false }).share({ battery: { charging: false, level: 0.01 } }), 1);
});

const tab = { id: "a", focused: false, online: true, saveData: false, lastInput: 0 };

test("the origin has the focus and the input of any of its tabs", () => {
  const p = new Presences();
  p.hear({ ...tab, focused: true, lastInput: 50 }, 100);
  p.hear({ ...tab, id: "b", lastInput: 70 }, 100);
  let s = p.signals(100);
  equal(s.focused, true);
  equal(s.lastInput, 70);
  p.hear({ ...tab, gone: true, lastInput: 90 }, 101);
  s = p.signals(101);
  equal(s.focused, false);
  equal(s.lastInput, 90);
});

test("a tab that says nothing any more has no focus", () => {
  const p = new Presences();
  p.hear({ ...tab, focused: true }, 0);
  equal(p.signals(80_000).focused, true);
  equal(p.signals(100_000).focused, false);
});

test("input of the future is of now", () => {
  const p = new Presences();
  p.hear({ ...tab, lastInput: 1e15 }, 1000);
  equal(p.signals(1000).lastInput, 1000);
  equal(p.signals(400).lastInput, 400); // the clock was set back
});

test("what a tab cannot tell stays what another told", () => {
  const p = new Presences();
  p.hear({ ...tab, pressure: "serious", battery: { charging: true, level: 1 } }, 1);
  p.hear({ ...tab, id: "b" }, 2);
  equal(p.signals(3).pressure, "serious");
  p.thaw(50);
  equal(p.signals(50).pressure, undefined);
  equal(p.signals(50).lastInput, 50);
});

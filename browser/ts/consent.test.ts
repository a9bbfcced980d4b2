import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import { consentKey, Consents, none, read, type Shelf, write } from "./src/consent";

const day = 86_400_000;
const start = 1_800_000_000_000;

/** A page: its storage, its clock, its visitor. */
class Page {
  kept = new Map<string, string>();
  t = start;
  clicked = false;
  frame = false;
  blocked = false;
  warnings = 0;
  told = 0;
  readonly consents = new Consents({
    shelf: (): Shelf => {
      if (this.blocked) throw new Error("denied");
      return {
        getItem: (k) => this.kept.get(k) ?? null,
        setItem: (k, v) => void this.kept.set(k, v),
        removeItem: (k) => void this.kept.delete(k),
      };
    },
    now: () => this.t,
    gesture: () => this.clicked,
    framed: () => this.frame,
    changed: () => void this.told++,
    blocked: () => void this.warnings++,
  });
}

test("consent lasts for its days, and needs a gesture", () => {
  const p = new Page();
  throws(() => p.consents.grant(), { code: "CONSENT_NEEDS_GESTURE" });
  deepEqual(p.consents.state(), none);
  p.clicked = true;
  deepEqual(p.consents.grant({ days: 7, cpuLimit: 0.2 }), { given: true, expires: start + 7 * day, cpuLimit: 0.2 });
  equal(p.told, 1);
  p.t += 7 * day - 1;
  equal(p.consents.state().given, true);
  p.t += 1;
  equal(p.consents.state().given, false);
});

test("revoking holds at once and is heard", () => {
  const p = new Page();
  p.clicked = true;
  const heard: boolean[] = [];
  const end = p.consents.watch((s) => heard.push(s.given));
  p.consents.grant();
  p.consents.revoke();
  deepEqual(heard, [true, false]);
  equal(p.kept.size, 0);
  end();
  p.consents.grant();
  equal(heard.length, 2);
});

test("another tab's change is heard once", () => {
  const p = new Page();
  const heard: boolean[] = [];
  p.consents.watch((s) => heard.push(s.given));
  p.kept.set(consentKey, JSON.stringify(write({}, start)));
  p.consents.refresh();
  p.consents.refresh();
  p.kept.delete(consentKey);
  p.consents.refresh();
  deepEqual(heard, [true, false]);
});

test("a clock set back brings no expired consent to life", () => {
  const text = JSON.stringify(write({ days: 1 }, start));
  equal(read(text, start).given, true);
  equal(read(text, start - 2 * day).given, false);
});

for (const text of [
  null,
  "",
  "{",
  "null",
  "[]",
  '"yes"',
  "{}",
  '{"version":2,"granted":1,"expires":2e12,"cpuLimit":0.5}',
  `{"version":1,"granted":${start},"expires":${start + 400 * day},"cpuLimit":0.5}`,
  `{"version":1,"granted":${start},"expires":${start + day},"cpuLimit":5}`,
  `{"version":1,"granted":"${start}","expires":${start + day},"cpuLimit":0.5}`,
  `{"version":1,"granted":${start},"expires":${start + day}}`,
]) {
  test(`no consent: ${text}`, () => deepEqual(read(text, start), none));
}

test("terms out of range are refused", () => {
  const p = new Page();
  p.clicked = true;
  for (const terms of [{ days: 0 }, { days: 366 }, { days: NaN }, { cpuLimit: 0 }, { cpuLimit: 1.1 }]) {
    throws(() => p.consents.grant(terms), { code: "BAD_CONFIG" });
  }
});

test("a frame of another site has no consent, even of its own origin", () => {
  const p = new Page();
  p.clicked = true;
  p.consents.grant();
  p.frame = true;
  equal(p.consents.state().given, false);
  throws(() => p.consents.grant(), { code: "CONSENT_IN_FRAME" });
});

test("without storage consent lasts as long as the page", () => {
  const p = new Page();
  p.blocked = p.clicked = true;
  equal(p.consents.grant().given, true);
  equal(p.warnings, 1);
  equal(p.consents.state().given, true);
  equal(new Page().consents.state().given, false);
  p.consents.revoke();
  equal(p.consents.state().given, false);
});

test("a click made by a script is no consent", async () => {
  const p = new Page();
  p.clicked = true;
  await rejects(p.consents.request({ click: { isTrusted: false } as Event }), { code: "CONSENT_NEEDS_GESTURE" });
  equal((await p.consents.request({ click: { isTrusted: true } as Event })).given, true);
});

import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { Throttle } from "./src/throttle";

/** A Worker's time, in which work and sleep take what they are told. */
class Time {
  t = 1000;
  slept = 0;
  late = 0;
  readonly now = (): number => this.t;
  readonly sleep = (ms: number): void => {
    this.slept += ms + this.late;
    this.t += ms + this.late;
  };
}

for (const cpu of [1, 10, 30, 50, 99, 100]) {
  for (const late of [0, 1.5]) {
    test(`${cpu} % of a core, sleeping ${late} ms too long`, () => {
      const time = new Time();
      time.late = late;
      const throttle = new Throttle(time.now, time.sleep);
      throttle.start();
      let worked = 0;
      for (let i = 0; i < 5000; i++) {
        const slice = 1 + (i % 7);
        time.t += slice;
        worked += slice;
        throttle.pause(cpu);
      }
      const share = (100 * worked) / (worked + time.slept);
      ok(Math.abs(throttle.worked() - 1000 - worked) < 1e-6); // what it slept does not count
      ok(Math.abs(share - cpu) <= cpu / 100, `worked ${share} %`);
    });
  }
}

test("the time between tasks counts as rest", () => {
  const time = new Time();
  const throttle = new Throttle(time.now, time.sleep);
  throttle.start();
  time.t += 3;
  throttle.pause(50); // owes less than a sleep is worth
  equal(time.slept, 0);
  time.t += 1000;
  throttle.start();
  time.t += 4;
  throttle.pause(50);
  ok(time.slept < 4.5, `slept ${time.slept} ms`);
});

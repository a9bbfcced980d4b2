import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { jobsOf, quoted, spending } from "./src/batch";

const tasks = [
  { type: "text", payload: "a", options: { maxCredits: 2 } },
  { type: "text", payload: "b", options: { maxCredits: 0.5, redundancy: 2 } },
  { type: "embedding", payload: { texts: ["c"] }, options: { maxCredits: 2 } },
];

test("tasks with equal options are one job", () => {
  const parts = jobsOf(tasks);
  deepEqual(parts.map((p) => [p.job.maxMicro, p.job.redundancy, p.job.tasks.length, p.places]), [
    ["2000000", 1, 2, [0, 2]],
    ["500000", 2, 1, [1]],
  ]);
  throws(() => jobsOf([{ type: "text" }]), { code: "BAD_CONFIG" });
});

test("a batch says what became of its budget", () => {
  const parts = jobsOf(tasks);
  const batch = spending([], parts, ["1500000", "250001"]);
  deepEqual([batch.budget, batch.spent, batch.left], [2.5, 1.750001, 0.749999]);
  equal(Array.isArray(batch), true);
  equal(spending([], parts, []).left, 2.5); // no job has an end that is known
  equal(spending([], parts, ["9000000"]).left, 0);
});

test("a quote is of all jobs of a call", () => {
  const one = { holdMicro: "100", taskMicro: "2000000", mostMicro: "2500000", budgetMicro: "10000000", priceMicro: "1000000" };
  deepEqual(quoted([one, { ...one, holdMicro: "50", taskMicro: "3000000", budgetMicro: "4000000" }]), {
    hold: 0.00015,
    task: 3,
    most: 5,
    budget: 14,
    price: 1,
  });
});

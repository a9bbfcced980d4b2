// Tasks of one call: which of them are one job, what all may cost, and what
// became of their budget.
import type { Batch, Quote, Result, Task } from "./api";
import type { GoQuote } from "./boundary";
import { type Job, order, policy, toCredits } from "./check";

/** A job and the places of its tasks in the call. */
export interface Part {
  job: Job;
  places: number[];
}

/** Tasks with equal options are one job, with one budget. */
export function jobsOf(tasks: Task[]): Part[] {
  const jobs = new Map<string, Part>();
  tasks.forEach((t, i) => {
    const p = policy(t?.options);
    const key = JSON.stringify(p);
    let g = jobs.get(key);
    if (!g) jobs.set(key, (g = { job: { ...p, tasks: [] }, places: [] }));
    g.job.tasks.push(order(t));
    g.places.push(i);
  });
  return [...jobs.values()];
}

/** Results with what became of the budget of all jobs; spent are µcredits. */
export function spending(results: Result[], parts: Part[], spent: string[]): Batch {
  const sum = (amounts: string[]): bigint => amounts.reduce((all, a) => all + BigInt(a), 0n);
  const budget = sum(parts.map((p) => p.job.maxMicro));
  const cost = sum(spent);
  const left = cost > budget ? 0n : budget - cost;
  return Object.assign(results, { budget: toCredits(String(budget)), spent: toCredits(String(cost)), left: toCredits(String(left)) });
}

/** What all jobs of a call may cost. */
export function quoted(jobs: GoQuote[]): Quote {
  const sum = (of: (q: GoQuote) => string): number => toCredits(String(jobs.reduce((all, q) => all + BigInt(of(q)), 0n)));
  return {
    hold: sum((q) => q.holdMicro),
    task: Math.max(...jobs.map((q) => toCredits(q.taskMicro))),
    most: sum((q) => q.mostMicro),
    budget: sum((q) => q.budgetMicro),
    price: toCredits(jobs[0]!.priceMicro),
  };
}

import { equal } from "node:assert/strict";
import { test } from "node:test";
import { Kept } from "./src/kept";

test("the least recently used goes when there are too many", () => {
  const kept = new Kept<number>(2, 100);
  kept.add("a", 1, 1);
  kept.add("b", 2, 1);
  equal(kept.get("a"), 1);
  kept.add("c", 3, 1);
  equal(kept.get("b"), undefined);
  equal(kept.get("a"), 1);
  equal(kept.get("c"), 3);
});

test("bytes are bounded, but for the last item", () => {
  const kept = new Kept<number>(10, 100);
  kept.add("a", 1, 60);
  kept.add("b", 2, 30);
  kept.add("c", 3, 20);
  equal(kept.get("a"), undefined);
  equal(kept.get("b"), 2);
  kept.add("d", 4, 500);
  equal(kept.get("b"), undefined);
  equal(kept.get("c"), undefined);
  equal(kept.get("d"), 4);
  kept.add("e", 5, 1); // the bytes of what went are free again
  kept.add("f", 6, 99);
  equal(kept.get("d"), undefined);
  equal(kept.get("e"), 5);
  equal(kept.get("f"), 6);
});

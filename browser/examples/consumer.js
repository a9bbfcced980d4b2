import { EdgeNet } from "./edge-net.js";

const $ = (id) => document.getElementById(id);
const relays = new URLSearchParams(location.search).getAll("relay");

const samples = {
  text: {
    hint: "Any text. It is cut at white space, and the counts of all tasks are added up.",
    input: "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs home over the hill",
    parts: 4,
  },
  search: {
    hint: "JSON: query, vectors, and k, how many to find. Parts of the vectors are searched apart.",
    input: JSON.stringify({ query: [1, 0, 0], vectors: [[0.9, 0.1, 0], [0, 1, 0], [0.7, 0.7, 0], [0, 0, 1], [1, 0.05, 0]], k: 3 }),
    parts: 2,
  },
  vectors: {
    hint: "JSON: op (dot, cosine or euclidean), query and vectors. Parts of the vectors are compared apart.",
    input: JSON.stringify({ op: "cosine", query: [1, 2, 3], vectors: [[1, 2, 3], [3, 2, 1], [0, 0, 1], [2, 4, 6]] }),
    parts: 2,
  },
};

function log(text) {
  const li = document.createElement("li");
  li.className = "error";
  li.textContent = text;
  $("log").prepend(li);
  while ($("log").children.length > 5) $("log").lastChild.remove();
}

function table(element, head, rows) {
  const row = (cells, name) => {
    const tr = document.createElement("tr");
    for (const c of cells) {
      const cell = document.createElement(name);
      cell.textContent = c;
      if (name === "th") cell.scope = "col";
      tr.append(cell);
    }
    return tr;
  };
  element.replaceChildren(row(head, "th"), ...rows.map((r) => row(r, "td")));
}

/** Cuts a list or a text into at most n parts of similar size. */
function cut(items, n) {
  const size = Math.ceil(items.length / Math.min(n, items.length));
  const parts = [];
  for (let i = 0; i < items.length; i += size) parts.push(items.slice(i, i + size));
  return parts;
}

/** The tasks of a job, and how their results become one table. */
const kinds = {
  text(input, n) {
    const parts = cut(input.split(/(?<=\s)/), n);
    return {
      tasks: parts.map((p) => ({ type: "text", payload: p.join("") })),
      show(results) {
        const sum = new Map();
        for (const r of results) for (const [w, c] of Object.entries(r.counts)) sum.set(w, (sum.get(w) ?? 0) + c);
        const rows = [...sum].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).slice(0, 12);
        table($("answer"), ["Word", "Times"], rows);
      },
    };
  },
  search(input, n) {
    const { query, vectors, k = 10 } = JSON.parse(input);
    const parts = cut(vectors, n);
    return {
      tasks: parts.map((p) => ({ type: "vector_search", payload: { query, vectors: p, k } })),
      show(results) {
        let first = 0;
        const all = [];
        results.forEach((r, i) => {
          for (const hit of r.results) all.push({ index: first + hit.index, score: hit.score });
          first += parts[i].length;
        });
        all.sort((a, b) => b.score - a.score);
        table($("answer"), ["Vector", "Similarity"], all.slice(0, k).map((h) => [h.index, h.score.toFixed(4)]));
      },
    };
  },
  vectors(input, n) {
    const { op, query, vectors } = JSON.parse(input);
    return {
      tasks: cut(vectors, n).map((p) => ({ type: "vectors", payload: { op, query, vectors: p } })),
      show(results) {
        const scores = results.flatMap((r) => r.scores[0]);
        table($("answer"), ["Vector", op], scores.map((s, i) => [i, s.toFixed(4)]));
      },
    };
  },
};

let link = "";

function proof(results) {
  const by = new Map();
  for (const r of results) for (const w of r.workers) by.set(w, (by.get(w) ?? 0) + 1);
  table($("workers"), ["Worker", "Tasks"], [...by]);
  const base64 = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
  const lines = results.flatMap((r, task) => r.receipts.map((receipt) => `${JSON.stringify({ task, receipt: base64(receipt) })}\n`));
  $("receipts").parentElement.hidden = lines.length === 0;
  URL.revokeObjectURL(link);
  link = URL.createObjectURL(new Blob(lines));
  $("receipts").href = link;
}

async function submit() {
  const { kind, redundancy, credits, parts, input } = Object.fromEntries(new FormData($("form")));
  const { tasks, show } = kinds[kind](input, Number(parts));
  const options = { redundancy: Number(redundancy), maxCredits: Number(credits), timeout: 60000 };
  $("bar").value = 0;
  $("status").textContent = `0 of ${tasks.length} tasks`;
  $("running").hidden = false;
  $("result").hidden = $("proof").hidden = true;
  const began = performance.now();
  const results = await EdgeNet.submitBatch(
    tasks.map((t) => ({ ...t, options })),
    {
      onProgress: (done, total) => {
        $("bar").value = done / total;
        $("status").textContent = `${done} of ${total} tasks`;
      },
    },
  );
  const failed = results.find((r) => r.error);
  if (failed) throw failed.error;
  show(results);
  proof(results);
  const verified = results.every((r) => r.verified);
  $("verified").textContent = verified ? "Yes" : "No";
  $("verified").className = verified ? "good" : "";
  $("cost").textContent = results.reduce((sum, r) => sum + r.cost, 0).toLocaleString(undefined, { maximumFractionDigits: 6 });
  $("count").textContent = results.length;
  $("took").textContent = `${((performance.now() - began) / 1000).toFixed(2)} s`;
  $("result").hidden = $("proof").hidden = false;
}

function sample() {
  const s = samples[$("kind").value];
  $("input").value = s.input;
  $("parts").value = s.parts;
  $("hint").textContent = s.hint;
}

const node = await EdgeNet.init({
  siteId: location.hostname,
  relays: relays.length > 0 ? relays : [location.origin],
  onError: (e) => log(`${e.code}: ${e.message}`),
}).catch((e) => {
  log(`${e.code}: ${e.message}`);
  throw e;
});
window.node = node; // to try things in the console

$("kind").addEventListener("change", sample);
sample();
$("form").addEventListener("submit", (e) => {
  e.preventDefault();
  $("submit").disabled = true;
  submit()
    .catch((error) => log(error.code ? `${error.code}: ${error.message}` : String(error)))
    .finally(() => {
      $("submit").disabled = false;
      $("running").hidden = true;
    });
});
setInterval(() => {
  const s = node.stats();
  $("state").textContent = s.state;
  $("peers").textContent = s.peers;
  $("balance").textContent = s.credits.toLocaleString(undefined, { maximumFractionDigits: 6 });
  if (s.peerId) $("peer").textContent = s.peerId;
}, 500);

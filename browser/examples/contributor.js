"use strict";

const $ = (id) => document.getElementById(id);
const relays = new URLSearchParams(location.search).getAll("relay");
const words = { idle: "Not started", starting: "Starting", working: "Working", paused: "Paused", failed: "Cannot run here", disconnected: "Left" };
let paused = false;

function log(text, error) {
  const li = document.createElement("li");
  li.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  if (error) li.className = "error";
  $("log").prepend(li);
  while ($("log").children.length > 8) $("log").lastChild.remove();
  $("events").hidden = false;
}

function duration(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

const percent = (share) => `${Math.round(100 * share)} %`;

/** Writes only what changed: a screen reader reads what is written. */
function put(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function show(s) {
  const { given } = EdgeNet.consent.state();
  $("ask").hidden = given;
  $("panel").hidden = !given;
  $("panel").dataset.state = s.state;
  put("word", words[s.state]);
  put("reason", (s.reason && `${s.reason[0].toUpperCase()}${s.reason.slice(1)}.`) + (s.state !== "idle" && !s.here ? " The node runs in another tab of this site." : ""));
  put("credits", s.credits.toLocaleString(undefined, { maximumFractionDigits: 6 }));
  put("tasks", String(s.tasksCompleted));
  put("running", String(s.running));
  put("share", percent(s.cpu));
  put("peers", String(s.peers));
  put("uptime", duration(s.uptime));
  put("peer", s.peerId || "–");
  put("pause", paused ? "Resume" : "Pause");
  if (s.state === "working" || s.state === "paused") $("loading").hidden = true;
  // Whoever looks at the page sees that it works, wherever they scrolled to.
  $("indicator").hidden = s.state !== "working";
  put("indicator-text", `EdgeNet uses up to ${percent(s.cpu)} of the processor`);
}

async function main() {
  const node = await EdgeNet.init({
    siteId: location.hostname.slice(-64), // at most 64 bytes
    contribution: { cpuLimit: 0.5 },
    idle: { minIdleTime: 5000 },
    relays: relays.length > 0 ? relays : [location.origin],
    onCredit: (credits, _total, kind) => log(`${kind === "transfer" ? "Received" : "Earned"} ${credits} credits`),
    onTask: (task) => log(`Task ${task.type}: ${task.status}`),
    onError: (error) => log(`${error.code}: ${error.message}`, true),
    onProgress: (loaded, total) => {
      $("loading").hidden = loaded >= total;
      $("bar").value = loaded / total;
    },
  });
  window.node = node; // to try things in the console
  $("agree").addEventListener("click", (click) => {
    EdgeNet.consent
      .request({ click, cpuLimit: Number($("cpu").value), days: Number($("days").value) })
      .then(() => $("pause").focus())
      .catch((e) => log(`${e.code}: ${e.message}`, true));
  });
  const revoke = () => {
    EdgeNet.consent.revoke();
    $("agree").focus();
  };
  $("revoke").addEventListener("click", revoke);
  $("indicator-stop").addEventListener("click", revoke);
  $("pause").addEventListener("click", () => {
    paused = !paused;
    if (paused) node.pause();
    else node.resume();
    show(node.stats());
  });
  EdgeNet.consent.watch(() => show(node.stats()));
  show(node.stats());
  setInterval(() => show(node.stats()), 500);
}

main().catch((e) => log(`${e.code}: ${e.message}`, true));

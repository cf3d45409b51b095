"use strict";
// What a person decides on this page: labels of tiles, and decisions on findings. It is kept in the browser until it has
// been saved as the file that `ssvq label --from` takes.
const store = (() => {
  const $ = (id) => document.getElementById(id);
  const parse = (id) => JSON.parse($(id).textContent);
  const data = parse("data");
  const key = `ssvq review ${data.survey} ${data.model_id} ${data.tiling_id}`;
  const labels = new Map();
  const decisions = new Map();
  let saved = true;

  // A browser may refuse to keep anything for a file: then leaving the page asks first, and nothing else changes.
  function keep(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch { /* refused */ }
  }

  function kept(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  }

  function changed() {
    saved = false;
    keep(key, JSON.stringify({ labels: [...labels], decisions: [...decisions] }));
    show();
  }

  // Takes back what an earlier visit to the page left; `wanted` says which decisions are still to be saved.
  function restore(wanted) {
    let draft = {};
    try {
      draft = JSON.parse(kept(key) ?? "{}");
    } catch { /* of another version of this page */ }
    for (const [tile, label] of draft.labels ?? []) labels.set(tile, label);
    for (const [id, decision] of draft.decisions ?? []) {
      if (wanted(decision)) decisions.set(id, decision);
    }
    saved = !labels.size && !decisions.size;
    show();
  }

  const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function show() {
    const told = [];
    if (decisions.size) told.push(counted(decisions.size, "decision"));
    if (labels.size) {
      const anomalous = [...labels.values()].filter((label) => label === "anomalous").length;
      told.push(`${counted(labels.size, "tile label")}: ${anomalous} anomalous, ${labels.size - anomalous} normal`);
    }
    $("unsaved").hidden = !told.length;
    document.body.classList.toggle("has-unsaved", told.length > 0);
    $("unsaved-count").textContent = `${told.join(", and ")} ${saved ? "(saved as a file)" : "(not saved yet)"}`;
  }

  $("save").addEventListener("click", () => {
    const { survey, model_id, tiling_id } = data;
    const list = [...labels].map(([tile_id, label]) => ({ tile_id, label }));
    const who = $("who")?.value.trim() || null;
    const decided = [...decisions.values()].map((one) => ({ ...one, decided_by: one.decided_by ?? who }));
    const file = { survey, model_id, tiling_id, labels: list, decisions: decided };
    const address = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `${survey}-review.json`;
    link.click();
    URL.revokeObjectURL(address);
    saved = true;
    show();
  });
  $("forget").addEventListener("click", () => {
    const what = saved ? "Forget them here? The file that you saved stays." : "Forget them? They have not been saved.";
    if (!confirm(what)) return;
    labels.clear();
    decisions.clear();
    changed();
    saved = true;
    show();
    document.dispatchEvent(new Event("forgotten"));
  });
  window.addEventListener("beforeunload", (event) => {
    if (!saved) event.preventDefault();
  });

  return { data, labels, decisions, changed, restore, keep, kept, parse };
})();

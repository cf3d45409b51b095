"use strict";
// The findings: filters, the dialog in which one decides, and what was decided so far.
(() => {
  const $ = (id) => document.getElementById(id);
  const table = $("findings");
  if (!table) {
    store.restore(() => false);
    return;
  }
  const findings = store.parse("findings-data");
  const rows = [...table.tBodies[0].rows];
  const PAGE = 50; // rows that are shown at first, and more at a time
  let shown = PAGE;
  const count = (number) => number.toLocaleString("en");

  // What a finding is now: what was decided here, else what the table said when the page was made.

  const decision = (finding) => store.decisions.get(finding.finding_id);
  const stateOf = (finding) => (decision(finding) ?? finding).state;
  const when = (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : "");

  function showState(index) {
    const [finding, row] = [findings[index], rows[index]];
    const now = decision(finding) ?? finding;
    row.dataset.state = now.state;
    row.querySelector(".state-name").textContent = now.state;
    row.querySelector(".said").textContent = now.decided_at
      ? `${now.decided_by || "you"}, ${when(now.decided_at)}${decision(finding) ? ", not taken yet" : ""}`
      : "";
    row.querySelector(".note").textContent = now.note ?? "";
  }

  // Filters, and how many rows are shown of those that are left.

  const passes = (row) =>
    ["state", "severity"].every((name) => {
      const wanted = $(`filter-${name}`).value;
      return !wanted || row.dataset[name] === wanted;
    });

  function filter() {
    const left = rows.filter(passes);
    const visible = new Set(left.slice(0, shown));
    for (const row of rows) row.hidden = !visible.has(row);
    const states = {};
    for (const row of rows) states[row.dataset.state] = (states[row.dataset.state] ?? 0) + 1;
    const told = [...$("filter-state").options].map((option) => option.value).filter((state) => states[state]);
    $("findings-count").textContent =
      `${count(left.length)} of ${count(rows.length)} findings` +
      `${visible.size < left.length ? `, the first ${count(visible.size)} shown` : ""} · ` +
      told.map((state) => `${count(states[state])} ${state}`).join(", ");
    const more = left.length - visible.size;
    $("more").hidden = more <= 0;
    $("more-some").textContent = `Show ${count(Math.min(PAGE, more))} more`;
    $("more-all").textContent = `Show all ${count(left.length)}`;
    $("review").disabled = !left.length;
    $("review").textContent = left.length ? `Review ${count(left.length)}` : "Nothing to review";
  }

  for (const name of ["state", "severity"]) {
    $(`filter-${name}`).addEventListener("change", () => {
      shown = PAGE;
      filter();
    });
  }
  $("more-some").addEventListener("click", () => {
    shown += PAGE;
    filter();
  });
  $("more-all").addEventListener("click", () => {
    shown = Infinity;
    filter();
  });
  window.addEventListener("beforeprint", () => {
    for (const image of table.querySelectorAll("tr:not([hidden]) img")) image.loading = "eager";
  });

  // The dialog. Its queue is what the filters left when it was opened, so that what one decides stays in reach.

  const dialog = $("reviewer");
  let queue = [];
  let at = 0;
  const undone = []; // [index, the decision before], for undo

  function svg(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  // Of a large finding the preview of the whole image has more pixels than its own crop.
  function sharpen(closeup, finding, picture) {
    const own = closeup.querySelector("img");
    const [left, top, width, height] = finding.crop;
    if (!picture || picture.width / picture.size[0] <= own.naturalWidth / width) return;
    own.className = "whole";
    own.src = picture.preview;
    own.style.width = `${(100 * picture.size[0]) / width}%`;
    own.style.left = `${(-100 * left) / width}%`;
    own.style.top = `${(-100 * top) / height}%`;
  }

  function overview(finding, picture) {
    const place = $("overview").firstElementChild;
    $("overview").hidden = !picture;
    if (!picture) return place.replaceChildren();
    const [width, height] = picture.size;
    const image = document.createElement("img");
    image.src = picture.preview;
    image.alt = "";
    const frame = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
    const [x, y, w, h] = finding.box;
    for (const kind of ["halo", "edge"]) frame.append(svg("rect", { class: kind, x, y, width: w, height: h }));
    place.style.aspectRatio = `${width} / ${height}`;
    place.style.setProperty("--ratio", width / height);
    return place.replaceChildren(image, frame);
  }

  let parsed = null;
  function pictures() {
    parsed ??= store.parse("pictures");
    return parsed;
  }

  function open(position) {
    at = position;
    const index = queue[at];
    const [finding, row] = [findings[index], rows[index]];
    $("reviewer-name").textContent = row.querySelector(".name").textContent;
    const change = row.dataset.change;
    $("reviewer-facts").textContent = [
      `finding ${count(at + 1)} of ${count(queue.length)}`,
      row.dataset.severity,
      row.querySelector(".area").textContent,
      `${row.cells[4].textContent.trim()} times the threshold`,
      ...(change ? [change] : []),
      `at ${finding.box[0]}, ${finding.box[1]}`,
    ].join(" · ");
    const cut = row.querySelector(".cut");
    const nothing = document.createElement("p");
    nothing.className = "quiet";
    nothing.textContent = "No picture: the image could not be read when this page was made.";
    const closeup = cut ? cut.cloneNode(true) : nothing;
    for (const image of closeup.querySelectorAll("img")) {
      image.loading = "eager";
      image.alt = `Close-up of the finding in ${row.querySelector(".name").textContent}`;
    }
    const picture = finding.image === null ? null : pictures()[finding.image];
    if (cut) sharpen(closeup, finding, picture);
    $("closeup").replaceChildren(closeup);
    overview(finding, picture);
    $("note").value = (decision(finding) ?? finding).note ?? "";
    tell();
    if (!dialog.open) dialog.showModal();
  }

  function tell(said = "") {
    const finding = findings[queue[at]];
    const state = stateOf(finding);
    const now = decision(finding) ?? finding;
    const by = now.decided_at ? ` by ${now.decided_by || "you"}, ${when(now.decided_at)}` : "";
    const text = state === "new" ? "not decided yet" : `${state}${by}`;
    const left = queue.filter((index) => stateOf(findings[index]) === "new").length;
    $("reviewer-state").textContent = `${said}This one: ${text} · ${count(left)} of ${count(queue.length)} still new`;
    for (const button of dialog.querySelectorAll("[data-decide]")) {
      button.setAttribute("aria-pressed", button.dataset.decide === state && state !== "new");
    }
    dialog.querySelector('[data-decide="new"]').disabled = state === "new";
    $("undo").disabled = !undone.length;
    $("finding-previous").disabled = at === 0;
    $("finding-next").disabled = at === queue.length - 1;
  }

  function made(finding, state) {
    const { finding_id, image_id, fingerprint, outline } = finding;
    const note = $("note").value.trim() || null;
    const decided_by = $("who").value.trim() || null;
    const decided_at = new Date().toISOString();
    return { finding_id, image_id, fingerprint, state, decided_by, decided_at, note, outline };
  }

  function put(index, value) {
    const finding = findings[index];
    if (value) store.decisions.set(finding.finding_id, value);
    else store.decisions.delete(finding.finding_id);
    store.changed();
    showState(index);
  }

  function decide(state) {
    const index = queue[at];
    const finding = findings[index];
    if (state === "new" && stateOf(finding) === "new") return;
    undone.push([index, decision(finding)]);
    put(index, state === "new" && finding.state === "new" ? null : made(finding, state));
    const verb = { confirmed: "Confirmed", rejected: "Rejected", resolved: "Resolved", new: "Withdrawn:" }[state];
    if (state !== "new" && at < queue.length - 1) open(at + 1);
    tell(`${verb} ${rows[index].querySelector(".name").textContent}. `);
  }

  function undo() {
    if (!undone.length) return;
    const [index, before] = undone.pop();
    put(index, before);
    if (!queue.includes(index)) queue.push(index);
    open(queue.indexOf(index));
    tell("Undone. ");
  }

  // A note that is changed after the decision belongs to it still.
  $("note").addEventListener("change", () => {
    const index = queue[at];
    const finding = findings[index];
    const now = decision(finding) ?? finding;
    if (now.state !== "new" && (now.note ?? "") !== $("note").value.trim()) {
      undone.push([index, decision(finding)]);
      put(index, made(finding, now.state));
      tell("Note kept. ");
    }
  });

  function review(index) {
    queue = rows.filter(passes).map((row) => Number(row.dataset.finding));
    if (!queue.includes(index)) queue = [index];
    open(queue.indexOf(index));
  }

  const step = (by) => {
    if (queue[at + by] !== undefined) open(at + by);
  };

  table.addEventListener("click", (event) => {
    const button = event.target.closest(".review");
    if (button) review(Number(button.dataset.finding));
  });
  $("review").addEventListener("click", () => {
    const left = rows.filter(passes);
    const first = left.find((row) => row.dataset.state === "new") ?? left[0];
    if (first) review(Number(first.dataset.finding));
  });
  for (const button of dialog.querySelectorAll("[data-decide]")) {
    button.addEventListener("click", () => decide(button.dataset.decide));
  }
  $("undo").addEventListener("click", undo);
  $("finding-previous").addEventListener("click", () => step(-1));
  $("finding-next").addEventListener("click", () => step(1));
  $("reviewer-close").addEventListener("click", () => dialog.close());
  $("outline").addEventListener("change", (event) => dialog.classList.toggle("bare", !event.target.checked));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=text]")) {
      if (event.key === "Enter") {
        event.target.blur(); // which ends the note
        dialog.focus();
        event.preventDefault();
      }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const actions = {
      c: () => decide("confirmed"),
      r: () => decide("rejected"),
      f: () => decide("resolved"),
      w: () => decide("new"),
      u: undo,
      n: () => step(1),
      ArrowRight: () => step(1),
      p: () => step(-1),
      ArrowLeft: () => step(-1),
      o: () => $("outline").click(),
    };
    if (!(name in actions)) return;
    event.preventDefault();
    actions[name]();
  });
  // The focus goes back to where one stopped, and the table shows what the filters say of the new states.
  dialog.addEventListener("close", () => {
    const row = rows[queue[at]];
    filter();
    const target = row.hidden ? $("review") : row.querySelector(".review");
    target.focus();
  });
  document.addEventListener("forgotten", () => {
    undone.length = 0;
    findings.forEach((_, index) => showState(index));
    filter();
  });

  $("who").value = store.kept("ssvq reviewer") ?? "";
  $("who").addEventListener("change", () => store.keep("ssvq reviewer", $("who").value.trim()));

  // A draft of an earlier visit, less what the table has taken since.
  const taken = new Map(findings.map((finding) => [finding.finding_id, finding.decided_at ?? ""]));
  store.restore(({ finding_id, decided_at }) => taken.has(finding_id) && taken.get(finding_id) < decided_at);
  findings.forEach((finding, index) => {
    if (decision(finding)) showState(index);
  });
  filter();
})();

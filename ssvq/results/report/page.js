"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const { data, labels, parse } = store;
  const table = $("images");
  const rows = table ? [...table.tBodies[0].rows] : [];
  const count = (number) => number.toLocaleString("en");
  const share = (part, whole) => (whole ? `${Number(((100 * part) / whole).toPrecision(3))} %` : "–");

  // The threshold: how many lie in each bin and beyond is all that the counts need.

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  function show(id, text, note) {
    const small = document.createElement("small");
    small.textContent = note;
    $(id).replaceChildren(`${text} `, small);
  }

  function score(value) {
    return Math.abs(value) >= 1e4 ? count(Math.round(value)) : String(Number(value.toPrecision(4)));
  }

  function moveTo(bin) {
    const number = data.tiles.length;
    const threshold = bin === data.at ? data.threshold : data.low + bin * data.width;
    const tiles = sum(data.tiles.slice(bin));
    const images = rows.filter((row) => Number(row.dataset.bin) >= bin).length;
    $("at").textContent = score(threshold);
    show("tiles-over", count(tiles), share(tiles, sum(data.tiles)));
    show("images-over", count(images), share(images, rows.length));
    const normal = sum(data.normal);
    const alarms = sum(data.normal.slice(bin));
    // As the p-values of the score maps: k of n normal tiles mean a rate of (1 + k) / (1 + n).
    const expected = Math.round(((1 + alarms) / (1 + normal)) * sum(data.tiles));
    const note = `${count(alarms)} of ${count(normal)}, up to ${count(expected)} tiles here`;
    if (normal) show("false-alarms", share(alarms, normal), note);
    for (const row of rows) row.classList.toggle("over", Number(row.dataset.bin) >= bin);
    const under = document.querySelector("#under rect");
    const over = document.querySelector("#over rect");
    under.setAttribute("width", bin);
    over.setAttribute("x", bin);
    over.setAttribute("width", number - bin);
    $("line").setAttribute("x1", bin);
    $("line").setAttribute("x2", bin);
    $("slider").setAttribute("aria-valuetext", `${score(threshold)}: ${count(tiles)} tiles, ${count(images)} images`);
    $("reset").disabled = bin === data.at;
  }

  if ($("slider")) {
    $("slider").addEventListener("input", (event) => moveTo(Number(event.target.value)));
    $("reset").addEventListener("click", () => {
      $("slider").value = data.at;
      moveTo(data.at);
      $("slider").focus();
    });
    // A browser that goes back to the page keeps where the slider was.
    moveTo(Number($("slider").value));
  }

  // The table: numbers begin with the largest, names with the first.

  function sortBy(head) {
    const column = head.cellIndex;
    const text = head.classList.contains("text");
    const now = head.getAttribute("aria-sort");
    const descending = now === "none" ? !text : now === "ascending";
    const direction = descending ? -1 : 1;
    const key = (row) => (text ? row.cells[column].textContent.trim() : Number(row.cells[column].dataset.value));
    const compare = text ? new Intl.Collator("en", { numeric: true }).compare : (a, b) => a - b;
    const keyed = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    keyed.sort((a, b) => direction * compare(a[0], b[0]));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  for (const button of table ? table.tHead.querySelectorAll("button") : []) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }

  // The viewer: pictures are parsed when the first is opened.

  let pictures = null;
  let current = -1;
  const viewer = $("viewer");

  function element(name, attributes) {
    const svg = name === "svg" || name === "rect";
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function layers(picture, name) {
    const stack = element("div", { class: "layers" });
    // As large as the window allows, at most twice the pixels of the preview.
    const ratio = picture.width / picture.height;
    stack.style.aspectRatio = `${picture.width} / ${picture.height}`;
    stack.style.width = `min(100%, ${2 * picture.width}px, calc((96vh - 8.5rem) * ${ratio}))`;
    stack.append(element("img", { class: "photo", src: picture.preview, alt: name }));
    if (picture.heat) {
      const heat = element("img", { class: "heat", src: picture.heat, alt: "" });
      heat.style.width = `${100 * picture.heat_width}%`;
      heat.style.height = `${100 * picture.heat_height}%`;
      stack.append(heat);
    }
    const frames = element("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    for (const kind of ["halo", "frame"]) {
      for (const [x, y, width, height] of picture.frames) {
        frames.append(element("rect", { class: kind, x, y, width, height }));
      }
    }
    stack.append(frames);
    markable(stack, frames, picture);
    return stack;
  }

  // Labels: a person says of tiles what they are. The tiles of an image follow from its size and the tiling, as in
  // ssvq/imagery/grid.py.

  const [side, stride] = data.tiling_id.split("-").map((part) => (part === "whole" ? 0 : Number(part)));

  function offsets(length) {
    if (!stride || length <= side) return [0];
    const steps = Math.ceil((length - side) / stride);
    return Array.from({ length: steps + 1 }, (_, step) => Math.min(step * stride, length - side));
  }

  function nearest(starts, size, place) {
    const distance = (start) => Math.abs(start + size / 2 - place);
    return starts.reduce((best, start, i) => (distance(start) < distance(starts[best]) ? i : best), 0);
  }

  function markable(stack, frames, picture) {
    const [width, height] = picture.size;
    const [xs, ys] = [offsets(width), offsets(height)];
    const tileWidth = stride ? Math.min(side, width) : width;
    const tileHeight = stride ? Math.min(side, height) : height;
    let [row, col] = [0, 0];
    const name = () => `${picture.id}-${row}-${col}`;

    function draw() {
      for (const old of frames.querySelectorAll(".label, .cursor")) old.remove();
      const at = (kind, r, c) => {
        const place = { x: xs[c] / width, y: ys[r] / height, width: tileWidth / width, height: tileHeight / height };
        frames.append(element("rect", { class: kind, ...place }));
      };
      for (const [tile, label] of labels) {
        const [image, r, c] = tile.split("-");
        if (image === picture.id) at(`label ${label}`, Number(r), Number(c));
      }
      at("cursor", row, col);
      const label = labels.get(name());
      const said = label ? `, labelled ${label}` : "";
      stack.setAttribute("aria-label", `Tile in row ${row + 1}, column ${col + 1}${said}`);
    }

    function mark(label) {
      if (labels.get(name()) === label) labels.delete(name());
      else labels.set(name(), label);
      store.changed();
      draw();
    }

    const chosen = () => document.querySelector("#marking input:checked").value;
    stack.tabIndex = 0;
    stack.setAttribute("role", "application");
    stack.addEventListener("click", (event) => {
      const box = stack.getBoundingClientRect();
      col = nearest(xs, tileWidth, ((event.clientX - box.left) / box.width) * width);
      row = nearest(ys, tileHeight, ((event.clientY - box.top) / box.height) * height);
      mark(chosen());
    });
    stack.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const marks = { Enter: chosen(), " ": chosen(), a: "anomalous", n: "normal" };
      if (event.key in moves) {
        const [down, right] = moves[event.key];
        row = Math.min(Math.max(row + down, 0), ys.length - 1);
        col = Math.min(Math.max(col + right, 0), xs.length - 1);
        draw();
      } else if (event.key in marks) {
        mark(marks[event.key]);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    draw();
  }

  const buttons = () => [...table.querySelectorAll(".open")];

  function open(image) {
    pictures ??= parse("pictures");
    const button = table.querySelector(`.open[data-image="${image}"]`);
    if (!button || !pictures[image]) return;
    current = image;
    const row = button.closest("tr");
    const name = row.querySelector(".name").textContent;
    const place = buttons().indexOf(button) + 1;
    $("viewer-name").textContent = name;
    $("viewer-facts").textContent =
      `worst score ${row.cells[2].textContent.trim()} · ${row.cells[3].textContent.trim()} of ` +
      `${row.cells[4].textContent.trim()} tiles anomalous · ${place} of ${buttons().length}`;
    $("stage").replaceChildren(layers(pictures[image], name));
    if (!viewer.open) viewer.showModal();
  }

  function step(by) {
    const order = buttons();
    const here = order.findIndex((button) => Number(button.dataset.image) === current);
    open(Number(order[(here + by + order.length) % order.length].dataset.image));
  }

  for (const shape of document.querySelectorAll("#map [data-image]")) {
    const there = table.querySelector(`.open[data-image="${shape.dataset.image}"]`);
    shape.classList.toggle("can-open", there !== null);
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest(".open, #map [data-image]");
    if (target) open(Number(target.dataset.image));
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => viewer.close());
  $("heat").addEventListener("change", (event) => $("stage").classList.toggle("plain", !event.target.checked));
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      step(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === "h") {
      $("heat").click();
    }
  });
  // The dialog gives the focus back to what opened it; after the arrows that is another row.
  viewer.addEventListener("close", () => {
    const button = table.querySelector(`.open[data-image="${current}"]`);
    if (button) button.focus();
  });
})();

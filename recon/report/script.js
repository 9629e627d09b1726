// Sorting, filtering, the magnifier and the image under the pointer; the page reads the same without.
"use strict";
document.documentElement.classList.add("scripted");

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("picture")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
  if (table.tBodies[0].rows.length > 8) addFilter(table.parentElement, () => table.tBodies[0].rows);
}
for (const list of document.querySelectorAll(".filterable")) addFilter(list, () => list.children);

function sort(table, head, column) {
  const body = table.tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    if (typeof a === "string" || typeof b === "string") return (up ? 1 : -1) * String(a).localeCompare(String(b));
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what is missing comes last
    return (up ? 1 : -1) * (a - b);
  };
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

function addFilter(place, items) {
  const label = document.createElement("label"), input = document.createElement("input"), told = document.createElement("span");
  label.className = "filter";
  input.type = "search";
  told.setAttribute("role", "status");
  label.append("Show only what contains", input);
  place.before(label, told);
  told.className = "note";
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items()) {
      const text = item.textContent.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
      shown += !item.hidden;
    }
    told.textContent = words.length ? `${shown} of ${items().length} shown` : "";
  });
}

for (const group of document.querySelectorAll(".same")) {
  const images = [...group.querySelectorAll(".lens img")];
  if (!images.length) continue;
  let x = 0.5, y = 0.5, zoom = 4;
  const show = () => {
    group.classList.add("zoomed");
    for (const image of images) {
      image.style.transformOrigin = `${100 * x}% ${100 * y}%`;
      image.style.transform = `scale(${zoom})`;
    }
  };
  const hide = () => {
    group.classList.remove("zoomed");
    for (const image of images) image.style.transform = "";
  };
  const within = (value) => Math.min(1, Math.max(0, value));
  for (const image of images) {
    const lens = image.parentElement;
    lens.addEventListener("pointermove", (event) => {
      const box = lens.getBoundingClientRect();
      x = within((event.clientX - box.left) / box.width);
      y = within((event.clientY - box.top) / box.height);
      show();
    });
    lens.addEventListener("pointerleave", hide);
  }
  group.tabIndex = 0;
  group.addEventListener("blur", hide);
  group.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (event.key in moves) {
      x = within(x + moves[event.key][0]);
      y = within(y + moves[event.key][1]);
    } else if (event.key === "+" || event.key === "=") zoom = Math.min(16, zoom * 2);
    else if (event.key === "-") zoom = Math.max(2, zoom / 2);
    else if (event.key === "Escape") return hide();
    else return;
    event.preventDefault();
    show();
  });
}

for (const planes of document.querySelectorAll(".planes")) {
  const sheet = planes.querySelector(".sheet"), lens = document.createElement("canvas"), told = document.createElement("p");
  if (!sheet) continue;
  const [columns, width, height] = ["columns", "width", "height"].map((name) => Number(sheet.dataset[name]));
  [lens.width, lens.height, lens.className] = [width, height, "at"];
  lens.setAttribute("aria-hidden", "true");
  told.className = "note";
  told.setAttribute("role", "status");
  planes.append(told, lens);
  planes.addEventListener("pointerover", (event) => {
    const number = event.target.dataset && event.target.dataset.image;
    if (number === undefined) return;
    for (const before of planes.querySelectorAll("text.at")) before.classList.remove("at");
    for (const same of planes.querySelectorAll(`text[data-image="${Number(number)}"]`)) same.classList.add("at");
    const left = (number % columns) * width, top = Math.floor(number / columns) * height;
    lens.getContext("2d").drawImage(sheet, left, top, width, height, 0, 0, width, height);
    told.textContent = `Class ${event.target.textContent}`;
  });
}

// What is folded up is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("figure details, .run, .level").forEach((part) => (part.open = true)));

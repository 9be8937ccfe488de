// Which columns a list shows: chosen on the page, remembered in this browser. The first column, which
// names and links the row, always stays.
"use strict";

const rules = new CSSStyleSheet();
document.adoptedStyleSheets.push(rules);

const remembered = `columns of ${location.pathname.split("/").at(-1)}`;

function hidden() {
  try {
    return new Set(JSON.parse(localStorage.getItem(remembered)) ?? []);
  } catch {
    return new Set(); // no storage, or not ours
  }
}

function apply(table, names, left) {
  const shown = (name) => !left.has(name);
  rules.replaceSync(names.filter((name) => !shown(name))
    .map((name) => `[data-results] .list [data-label="${CSS.escape(name)}"] { display: none !important; }`).join("\n"));
  // A cell over several columns covers those that are shown.
  const columns = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.label);
  for (const cell of table.querySelectorAll("td[colspan]")) {
    cell.dataset.span ??= cell.colSpan;
    const at = [...cell.parentElement.cells].slice(0, cell.cellIndex)
      .reduce((sum, before) => sum + Number(before.dataset.span ?? 1), 0);
    const over = columns.slice(at, at + Number(cell.dataset.span));
    cell.colSpan = Math.max(1, over.filter(shown).length);
  }
}

function offer() {
  const table = document.querySelector("[data-results] table.list");
  const place = document.querySelector("[data-results] .filters");
  if (!table || !place) return;
  const cells = [...table.tHead.rows[0].cells];
  for (const cell of cells) cell.dataset.label = cell.textContent.trim();
  const [, ...names] = cells.map((cell) => cell.dataset.label).filter((name) => name);
  const left = hidden();
  const menu = document.createElement("details");
  menu.className = "columns";
  menu.append(Object.assign(document.createElement("summary"), { textContent: "Columns" }));
  const choices = document.createElement("div");
  for (const name of names) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !left.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) left.delete(name); else left.add(name);
      try { localStorage.setItem(remembered, JSON.stringify([...left])); } catch { /* until the page is left */ }
      apply(table, names, left);
    });
    const label = document.createElement("label");
    label.append(box, name);
    choices.append(label);
  }
  menu.append(choices);
  place.append(menu);
  apply(table, names, left);
}

document.addEventListener("listed", offer);
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector(".columns[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("click", (event) => {
  const menu = document.querySelector(".columns[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
});
offer();

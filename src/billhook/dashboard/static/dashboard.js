// Copying, forms, and live updates. Every page works without this script. Times: times.js.
"use strict";

// --- copying -----------------------------------------------------------------------------------

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    tell(button, "Copied");
  } catch {
    // Without HTTPS, browsers don't offer a clipboard: the text is selected instead.
    const text = button.parentElement.querySelector("code, pre");
    getSelection().selectAllChildren(text);
    tell(button, "Selected");
  }
}

function tell(button, word) {
  button.dataset.name ??= button.getAttribute("aria-label");
  button.textContent = word;
  button.setAttribute("aria-label", word);
  clearTimeout(button.told);
  button.told = setTimeout(() => {
    button.textContent = "Copy";
    button.setAttribute("aria-label", button.dataset.name);
  }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

// --- forms -------------------------------------------------------------------------------------

// Leave empty fields out of the URL.
for (const form of document.querySelectorAll("[data-tools]")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
  });
}

// One click, one request. Chosen buttons keep their value, so they are disabled afterwards.
document.addEventListener("submit", (event) => {
  if (event.target.method === "post") {
    setTimeout(() => {
      for (const button of event.target.querySelectorAll("button")) button.disabled = true;
    });
  }
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[method=post] button")) button.disabled = false;
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-all]")) return;
  const table = event.target.closest("table");
  for (const box of table.querySelectorAll("tbody input[type=checkbox]")) {
    box.checked = event.target.checked;
  }
});

// --- parts of the page that change while something runs ------------------------------------------

async function refresh(part) {
  try {
    const answer = await fetch(part.dataset.refresh, { headers: { accept: "text/x-part" } });
    if (answer.status === 401) return;
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body.firstElementChild;
    part.replaceWith(fresh);
    watch(fresh);
  } catch {
    setTimeout(() => refresh(part), 3000);
  }
}

function watch(part) {
  if (part.dataset.refresh) setTimeout(() => refresh(part), 700);
}

for (const part of document.querySelectorAll("[data-refresh]")) watch(part);

// --- the ledger, live ----------------------------------------------------------------------------

function follow(body) {
  const state = document.querySelector("[data-live-state]");
  let source = null;
  let silence = null;

  const say = (text) => { state.hidden = false; state.textContent = text; };
  const heard = () => { clearTimeout(silence); silence = setTimeout(lost, 5000); say("Live"); };
  const lost = () => { say("Reconnecting …"); connect(); };

  function connect() {
    source?.close();
    clearTimeout(silence);
    silence = setTimeout(lost, 5000);
    source = new EventSource(body.dataset.live);
    source.addEventListener("open", heard);
    source.addEventListener("row", (event) => { heard(); show(JSON.parse(event.data)); });
    // Rows that no longer match the filters, or that newer ones displaced.
    source.addEventListener("shown", (event) => {
      heard();
      const kept = JSON.parse(event.data);
      for (const row of [...body.rows]) if (!kept.includes(row.dataset.id)) row.remove();
      if ([...body.rows].some((row, place) => row.dataset.id !== kept[place])) {
        const rows = new Map([...body.rows].map((row) => [row.dataset.id, row]));
        for (const id of kept) if (rows.has(id)) body.append(rows.get(id));
      }
    });
    source.addEventListener("beat", heard);
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) say("Not connected. If this persists, reload the page.");
    });
  }

  const shown = new Map(); // each connection starts with all rows; most are unchanged

  function show({ id, row }) {
    if (shown.get(id) === row) return;
    shown.set(id, row);
    // Rendered by the server, which escapes untrusted text.
    const page = new DOMParser().parseFromString(`<table>${row}</table>`, "text/html");
    const fresh = document.importNode(page.querySelector("tr"), true);
    const known = body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
    if (known) {
      fresh.querySelector("input").checked = known.querySelector("input").checked;
      known.replaceWith(fresh);
    } else {
      fresh.classList.add("new");
      body.prepend(fresh);
      document.querySelector("[data-until-live]")?.remove();
    }
  }

  // Hidden pages need no connection; browsers allow only a few per host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source.close(); clearTimeout(silence); } else connect();
  });
  connect();
}

for (const body of document.querySelectorAll("[data-live]")) follow(body);

// On narrow screens, the menu is a single scrollable line.
document.querySelector(".sections [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

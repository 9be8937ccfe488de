// Copying, search, filters, dialogs and live updates. Every page works without this script. Times:
// times.js.
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

// --- results of actions --------------------------------------------------------------------------

const SHOWN = 8000; // milliseconds

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest("[data-notice]").remove();
});
for (const notice of document.querySelectorAll(".toasts [data-notice]")) {
  let timer;
  const start = () => { timer = setTimeout(() => notice.remove(), SHOWN); };
  for (const name of ["mouseenter", "focusin"]) notice.addEventListener(name, () => clearTimeout(timer));
  for (const name of ["mouseleave", "focusout"]) notice.addEventListener(name, start);
  start();
}

// --- search, rows --------------------------------------------------------------------------------

// `/` and Ctrl-K go to the search, except while something is typed.
document.addEventListener("keydown", (event) => {
  const types = event.target.closest("input, textarea, select, [contenteditable]");
  const wanted = (event.key === "/" && !types && !event.ctrlKey && !event.metaKey && !event.altKey)
    || (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey));
  const search = document.querySelector("[data-search]");
  if (!wanted || !search || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  search.focus();
  search.select();
});

// A click anywhere on a row opens its page; the link in it is for the keyboard.
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-row]");
  if (!row || event.defaultPrevented || event.target.closest("a, button, input, label, summary")) return;
  if (getSelection().toString()) return;
  const link = row.querySelector(".lead a");
  if (!link) return;
  if (event.ctrlKey || event.metaKey) open(link.href); else link.click();
});

// --- forms -------------------------------------------------------------------------------------

// Leave empty fields out of the URL.
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("[data-tools]")) return;
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

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

// On phones, the filters are behind a button.
document.addEventListener("click", (event) => {
  const more = event.target.closest("[data-more]");
  if (!more) return;
  const open = more.closest("[data-tools]").classList.toggle("open");
  more.setAttribute("aria-expanded", String(open));
});

// --- filters that apply at once --------------------------------------------------------------------

const parsed = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

let asked = 0;
const address = () => location.pathname + location.search;
let listed = address();

// Shows the list of another URL of this page. Whatever goes wrong, the browser goes there itself.
async function list(url, { keep = false } = {}) {
  const number = ++asked;
  const results = document.querySelector("[data-results]");
  results.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(url, { headers: { accept: "text/x-part" } });
    const page = await parsed(answer);
    const fresh = page.querySelector("[data-results]");
    if (number !== asked) return;
    if (!answer.ok || !fresh) throw new Error(answer.statusText);
    for (const body of results.querySelectorAll("[data-live]")) body.stop?.();
    results.replaceWith(fresh);
    const tools = page.querySelector("[data-tools]");
    const shown = document.querySelector("[data-tools]");
    if (tools && shown && !keep) shown.replaceWith(tools);
    const exported = page.querySelector(".heading a[href*='.csv']");
    document.querySelector(".heading a[href*='.csv']")?.replaceWith(exported ?? "");
    history.pushState(null, "", url);
    listed = address();
    for (const body of fresh.querySelectorAll("[data-live]")) follow(body);
    document.dispatchEvent(new Event("listed"));
  } catch {
    if (number === asked) location.assign(url);
  }
}

function filtered(form) {
  const query = new URLSearchParams(new FormData(form)).toString();
  return location.pathname + (query && `?${query}`);
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-tools]");
  if (form && event.target.matches("select, input[type=date]") && document.querySelector("[data-results]")) {
    list(filtered(form), { keep: true });
  }
});
let typed;
document.addEventListener("input", (event) => {
  const form = event.target.closest("[data-tools]");
  if (!form || event.target.type !== "search" || !document.querySelector("[data-results]")) return;
  clearTimeout(typed);
  typed = setTimeout(() => list(filtered(form), { keep: true }), 350);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-results-link]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  list(link.href);
});
// Also fires for links within the page, such as the one that skips to the content.
addEventListener("popstate", () => { if (address() !== listed) location.reload(); });

// --- dialogs: the page that asks before something happens, without leaving this one ----------------

const dialog = document.createElement("dialog");
document.body.append(dialog);

function ask(page) {
  const found = page.querySelector("[data-ask]");
  if (!found) return false;
  const part = document.importNode(found, true);
  dialog.replaceChildren(part);
  dialog.setAttribute("aria-labelledby", part.getAttribute("aria-labelledby"));
  if (!dialog.open) dialog.showModal();
  part.querySelector("[role=alert], input:not([type=hidden]), select, button")?.focus?.();
  return true;
}

document.addEventListener("click", async (event) => {
  if (event.target.closest("dialog [data-close]")) {
    event.preventDefault();
    dialog.close();
    return;
  }
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href, { headers: { accept: "text/x-part" } });
    if (!answer.ok || !ask(await parsed(answer))) location.assign(link.href);
  } catch {
    location.assign(link.href);
  }
  link.removeAttribute("aria-busy");
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("submit", async (event) => {
  const form = event.target;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const isGet = form.method === "get";
  try {
    const answer = await fetch(isGet ? `${form.action}?${body}` : form.action, {
      ...(isGet ? {} : { method: "POST", body }), headers: { accept: "text/x-part" },
    });
    // Where it leads, the page says how it went. What is wrong is said in the dialog.
    if (answer.redirected) {
      if (answer.url.split("#")[0] === location.href.split("#")[0]) location.reload();
      else location.assign(answer.url);
      return;
    }
    const page = await parsed(answer);
    if (!ask(page)) dialog.replaceChildren(document.importNode(page.querySelector("main > .card"), true));
  } catch {
    // It may have happened: nothing is sent again.
    const said = document.createElement("p");
    said.setAttribute("role", "alert");
    said.className = "notice bad";
    said.textContent = "There was no answer. Reload the page to see whether it worked.";
    form.before(said);
  }
});
// Choices that change what is asked.
dialog.addEventListener("change", (event) => {
  if (event.target.closest("[data-again]")) event.target.form.requestSubmit();
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
  const look = () => {
    if (document.hidden) { source.close(); clearTimeout(silence); } else connect();
  };
  document.addEventListener("visibilitychange", look);
  body.stop = () => {
    document.removeEventListener("visibilitychange", look);
    source.close();
    clearTimeout(silence);
  };
  connect();
}

for (const body of document.querySelectorAll("[data-live]")) follow(body);

// On narrow screens, the menu is a single scrollable line.
document.querySelector(".sections [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

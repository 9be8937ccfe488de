// What the pages cannot do without a script: times in the viewer's zone, copying, and news.
// Every page works without it.
"use strict";

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const format = "day" in time.dataset ? DAY : TIME;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

// --- copying -----------------------------------------------------------------------------------

async function copy(button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    // Without HTTPS browsers give no clipboard: the text is selected for the visitor to copy.
    const text = button.parentElement.querySelector("code, pre");
    getSelection().selectAllChildren(text);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

// --- forms -------------------------------------------------------------------------------------

// Filters apply when they are chosen.
for (const form of document.querySelectorAll("[data-tools]")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
  // An address without what nobody chose.
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

// --- a part of the page that changes while something runs ----------------------------------------

async function refresh(part) {
  try {
    const answer = await fetch(part.dataset.refresh, { headers: { accept: "text/x-part" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body.firstElementChild;
    localise(fresh);
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
  const say = (text) => { state.hidden = false; state.textContent = text; };
  const source = new EventSource(body.dataset.live);
  source.addEventListener("open", () => say("Live"));
  source.addEventListener("error", () => say("Connecting again …"));
  source.addEventListener("ended", () => {
    source.close();
    say("Your session has ended. Load the page again.");
  });
  source.addEventListener("row", (event) => {
    const { id, row } = JSON.parse(event.data);
    const holder = document.createElement("tbody");
    holder.innerHTML = row; // made by the server, which escapes all that is not its own
    const fresh = holder.querySelector("tr");
    localise(fresh);
    const known = body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
    if (known) {
      fresh.querySelector("input").checked = known.querySelector("input").checked;
      known.replaceWith(fresh);
      return;
    }
    fresh.classList.add("new");
    body.prepend(fresh);
    while (body.rows.length > Number(body.dataset.most)) body.lastElementChild.remove();
    document.querySelector("[data-until-live]")?.remove();
  });
}

for (const body of document.querySelectorAll("[data-live]")) follow(body);

// On narrow screens the menu is one line that scrolls.
document.querySelector(".rooms [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

localise(document);

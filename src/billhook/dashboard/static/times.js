// Shows times in the viewer's zone. The page loads this before its body, so no time is painted in
// UTC first, and nothing that adds rows or parts later has to think of their times.
"use strict";

document.documentElement.classList.add("scripted");

{
  const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
  const AGO = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "long" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const RECENT = 6 * 86400; // seconds; older times are dates

  // "5 minutes ago", "in 3 days"; the exact time is shown on hover.
  const relative = (at) => {
    const seconds = (at - Date.now()) / 1000;
    if (Math.abs(seconds) > RECENT) return DAY.format(at);
    for (const [unit, size] of UNITS) {
      if (Math.abs(seconds) >= size) return AGO.format(Math.round(seconds / size), unit);
    }
    return AGO.format(0, "second");
  };

  const localize = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      let text = MOMENT.format(at);
      if ("day" in time.dataset) text = DAY.format(at);
      if ("ago" in time.dataset) {
        text = relative(at);
        time.dataset.utc ??= time.title;
        const exact = `${MOMENT.format(at)} (${time.dataset.utc})`;
        if (time.title !== exact) time.title = exact;
      }
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // `characterData` too: the parser may add a time's text in pieces.
  new MutationObserver(localize).observe(document, { childList: true, characterData: true, subtree: true });
  setInterval(localize, 30_000);
}

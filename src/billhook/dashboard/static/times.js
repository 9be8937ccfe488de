// Shows times in the viewer's zone. The page loads this before its body, so no time is painted in
// UTC first, and nothing that adds rows or parts later has to think of their times.
"use strict";

{
  const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

  const localize = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const text = ("day" in time.dataset ? DAY : MOMENT).format(new Date(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // `characterData` too: the parser may add a time's text in pieces.
  new MutationObserver(localize).observe(document, { childList: true, characterData: true, subtree: true });
}

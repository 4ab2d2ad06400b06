// Keeps the status page true: asks as often as the server says, seldom in the background, and again
// by itself after the connection was lost.
"use strict";
(() => {
  const live = document.getElementById("live");
  const offline = document.getElementById("offline");
  const longest = 60;
  let etag = null;
  let seconds = Number(live.dataset.refresh) || 2;
  let missed = 0;
  let timer = 0;

  const later = () => {
    clearTimeout(timer);
    const slow = document.hidden ? 4 : 1;
    timer = setTimeout(look, Math.min(longest, seconds * slow) * 1000);
  };

  const look = async () => {
    try {
      const answer = await fetch(live.dataset.url, {
        headers: etag ? { "If-None-Match": etag } : {},
        cache: "no-store",
      });
      if (answer.status === 200) {
        etag = answer.headers.get("ETag");
        // Our own server's page fragment, every value escaped there.
        live.innerHTML = await answer.text();
      } else if (answer.status !== 304) {
        throw new Error(String(answer.status));
      }
      missed = 0;
      offline.hidden = true;
      seconds = Number(answer.headers.get("Retry-After")) || 2;
      if (live.firstElementChild.dataset.final === "true") return;
    } catch {
      missed += 1;
      offline.hidden = false;
      seconds = Math.min(longest, 2 ** missed) * (0.75 + Math.random() / 2);
    }
    later();
  };

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  addEventListener("online", look);
  later();
})();

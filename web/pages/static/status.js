// Keeps the status page true: asks as often as the server says, seldom in the background, gives up on
// a stuck connection, tries again by itself after a lost one, and stops when nothing can change.
"use strict";
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  const offline = document.getElementById("offline");
  const longest = 60;
  const patience = 20;
  let etag = null;
  let seconds = Number(live.dataset.refresh) || 2;
  let missed = 0;
  let asked = Date.now();
  let asking = false;
  let over = false;
  let timer = 0;

  const later = () => {
    clearTimeout(timer);
    if (over) return;
    // Never sooner than the server says, however long that is: it speaks for all who wait.
    const pause = document.hidden ? Math.max(seconds, Math.min(longest, seconds * 4)) : seconds;
    timer = setTimeout(look, Math.max(0, asked + pause * 1000 - Date.now()));
  };

  const show = (fragment) => {
    const before = live.querySelector(".big").textContent;
    // Our own server's fragment, every value escaped there.
    live.innerHTML = fragment;
    const now = live.querySelector(".big").textContent;
    if (now !== before) {
      said.textContent = now;
      document.title = document.title.replace(before, () => now);
    }
    over = live.firstElementChild.dataset.final === "true";
  };

  const look = async () => {
    if (asking || over) return;
    asking = true;
    const stuck = new AbortController();
    const alarm = setTimeout(() => stuck.abort(), patience * 1000);
    let pause = 0;
    try {
      const answer = await fetch(live.dataset.url, {
        headers: etag ? { "If-None-Match": etag } : {},
        cache: "no-store",
        signal: stuck.signal,
      });
      pause = Number(answer.headers.get("Retry-After")) || 0;
      if (answer.status === 200) {
        show(await answer.text());
        etag = answer.headers.get("ETag");
      } else if (answer.status !== 304) {
        throw new Error(String(answer.status));
      }
      missed = 0;
      seconds = pause || 2;
    } catch {
      missed += 1;
      seconds = Math.max(pause, Math.min(longest, 2 ** missed) * (0.75 + Math.random() / 2));
    }
    clearTimeout(alarm);
    offline.hidden = missed === 0;
    asked = Date.now();
    asking = false;
    later();
  };

  document.addEventListener("visibilitychange", later);
  addEventListener("online", look);
  later();
})();

// Keeps the page current: asks for itself every few seconds and exchanges the parts that changed.
// Everything was escaped by the server; nothing here builds HTML from text.
"use strict";
(() => {
  const EVERY = 4000;
  const WHILE_BUSY = 250;
  const button = document.getElementById("live");
  const said = document.getElementById("said");
  let etag = null;
  let on = Boolean(button);
  let timer = 0;

  const parts = (root) => new Map([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  const newest = (root) => Math.max(0, ...[...root.querySelectorAll("[data-row]")].map((row) => Number(row.dataset.row)));

  /** Whether a person is busy in this part: exchanging it would take a selection away. */
  function occupied(part) {
    const selection = getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  /** Charts are drawn into, so their figures stay and only what is around them is exchanged. */
  function exchange(old, fresh) {
    const kept = old.querySelector("[data-keep]");
    const place = fresh.querySelector("[data-keep]");
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const mark = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    if (kept && place && kept.dataset.keep === place.dataset.keep) place.replaceWith(kept);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, number) => { box.scrollLeft = scrolled[number] || 0; });
    if (mark) fresh.querySelector(mark)?.focus({ preventScroll: true });
  }

  /** Without what drawing added, so that equal parts compare equal. */
  const source = new WeakMap();
  function text(part) {
    if (!source.has(part)) source.set(part, part.innerHTML);
    return source.get(part);
  }

  function take(page) {
    const before = newest(document);
    const fresh = parts(page);
    const mine = parts(document);
    if (!fresh.size) return; // its sums take longer this time: what is shown stays
    if ([...fresh.keys()].join() !== [...mine.keys()].join()) {
      location.reload();
      return;
    }
    for (const [name, part] of fresh) {
      const old = mine.get(name);
      if (text(old) === part.innerHTML || occupied(old)) continue;
      if (part.querySelector("[data-busy]") && !old.querySelector("[data-busy]")) continue; // and so here
      const html = part.innerHTML;
      exchange(old, part);
      source.set(part, html);
    }
    const added = [...document.querySelectorAll("[data-row]")].filter((row) => Number(row.dataset.row) > before);
    if (before) added.forEach((row) => row.classList.add("fresh"));
    if (before && added.length && said) said.textContent = `${added.length} new response${added.length === 1 ? "" : "s"}`;
    document.dispatchEvent(new CustomEvent("usage:fresh"));
  }

  async function look() {
    try {
      const answer = await fetch(location.href, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        etag = answer.headers.get("ETag");
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      document.body.classList.toggle("lost", answer.status >= 400);
    } catch {
      document.body.classList.add("lost"); // the proxy is gone; it may come back
    }
    plan();
  }

  function plan() {
    clearTimeout(timer);
    const busy = document.querySelector("[data-busy]");
    if (document.hidden || (!on && !busy)) return;
    timer = setTimeout(look, busy ? WHILE_BUSY : EVERY);
  }

  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      on = !on;
      button.setAttribute("aria-pressed", String(on));
      plan();
    });
  }
  parts(document).forEach(text);
  document.addEventListener("visibilitychange", () => (document.hidden ? plan() : look()));
  plan();
})();

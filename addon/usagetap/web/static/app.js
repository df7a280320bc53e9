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
  let unsaid = 0;
  let lastSaid = 0;

  const parts = (root) => new Map([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  const newest = (root) => Math.max(0, ...[...root.querySelectorAll("[data-row]")].map((row) => Number(row.dataset.row)));

  /** Whether a person is busy in this part: exchanging it would take a selection away. */
  function occupied(part) {
    const selection = getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  /** A selector that finds the same element in the next page. */
  function markOf(element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const name = ["href", "aria-labelledby"].find((each) => element.hasAttribute(each));
    return name && `[${name}="${CSS.escape(element.getAttribute(name))}"]:not(table)`;
  }

  /** What a person looks at stays where it is, though rows come in above it; gives what puts it back. */
  function held() {
    if (!scrollY) return () => {};
    const seen = [...document.querySelectorAll("[data-row], [data-part]:not(script)")].filter((each) => {
      const box = each.getBoundingClientRect();
      return box.height && box.bottom > 0 && box.top < innerHeight;
    });
    const focused = document.activeElement.closest("[data-row]");
    const inRows = seen[0]?.dataset.part === "responses" && seen[0].getBoundingClientRect().top < 0;
    const first = seen.includes(focused) ? focused : inRows && seen[1] ? seen[1] : seen[0];
    if (!first) return () => {};
    const mark = first.dataset.row ? `[data-row="${first.dataset.row}"]` : `[data-part="${first.dataset.part}"]`;
    const top = first.getBoundingClientRect().top;
    return () => {
      const again = document.querySelector(mark);
      if (again) scrollBy({ top: again.getBoundingClientRect().top - top, behavior: "instant" });
    };
  }

  /** Charts are drawn into, so their figures stay and only what is around them is exchanged. */
  function exchange(old, fresh) {
    const kept = old.querySelector("[data-keep]");
    const place = fresh.querySelector("[data-keep]");
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const mark = focused && markOf(focused);
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
    const hold = held();
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
    if (before) say(added.length);
    document.dispatchEvent(new CustomEvent("usage:fresh"));
    hold();
  }

  /** For screen readers: at most once a minute, how many have come since. */
  function say(count) {
    unsaid += count;
    if (!unsaid || !said || Date.now() - lastSaid < 60_000) return;
    said.textContent = `${unsaid} new response${unsaid === 1 ? "" : "s"}`;
    [unsaid, lastSaid] = [0, Date.now()];
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

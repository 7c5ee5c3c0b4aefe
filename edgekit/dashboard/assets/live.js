"use strict";
/* Keeps the dashboard up to date: asks for the page again and puts in what has changed; and the keys of the fleet map. */
(() => {
  const PERIOD_MS = 10000, LIVE = "[data-live]";
  const live = document.getElementById("live"), said = document.getElementById("said");
  const before = new Map(), clock = () => new Date().toISOString().slice(11, 19);
  let tag = null, lost = null;

  const alerts = root => [...root.querySelectorAll("#alerts .what")].map(each => each.textContent.trim());
  document.querySelectorAll(LIVE).forEach(each => before.set(each.id, null));

  function point(cell) {
    document.querySelectorAll(".cell[aria-selected=true]").forEach(each => each.setAttribute("aria-selected", "false"));
    cell.setAttribute("aria-selected", "true");
    document.getElementById("panel").textContent = cell.getAttribute("aria-label");
  }

  /* A section as it was, but for what is new in it: what was open stays open, who had the focus keeps it. */
  function put(section, fresh) {
    const open = [...section.querySelectorAll("details[open]")].map(each => each.id);
    const at = section.contains(document.activeElement) ? document.activeElement.id : "";
    const chosen = section.querySelector(".cell[aria-selected=true]");
    section.replaceChildren(...fresh.childNodes);
    for (const name of fresh.getAttributeNames()) section.setAttribute(name, fresh.getAttribute(name));
    open.forEach(id => { const each = document.getElementById(id); if (each) each.open = true; });
    const cell = chosen && document.getElementById(chosen.id);
    if (cell) point(cell);
    if (at) document.getElementById(at)?.focus({ preventScroll: true });
  }

  function take(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html"), known = alerts(document);
    const news = alerts(fresh).filter(each => !known.includes(each));
    for (const each of fresh.querySelectorAll(LIVE)) {
      const told = each.outerHTML, section = document.getElementById(each.id);
      if (section && before.get(each.id) !== told) put(section, document.adoptNode(each));
      before.set(each.id, told);
    }
    document.title = fresh.title;
    edgekitPlots.take(fresh.getElementById("data").textContent);
    if (news.length) said.textContent = `New alert: ${news.join(". ")}`;
  }

  async function ask() {
    const answer = await fetch(location.pathname, { cache: "no-cache", signal: AbortSignal.timeout(30000) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text.trim().slice(0, 200));
    if (answer.headers.get("ETag") !== tag) take(text);
    tag = answer.headers.get("ETag");
  }

  function tell(error) {
    if (error && !lost) said.textContent = "The dashboard does not answer any more.";
    if (!error && lost) said.textContent = "The dashboard answers again.";
    lost = error ? lost || clock() : null;
    live.classList.toggle("lost", Boolean(lost));
    live.textContent = lost ? `No news since ${lost} UTC: ${error.message}` : `Up to date at ${clock()} UTC`;
  }

  /* Not while somebody holds text, which would be taken from them; nor while nobody looks. */
  async function turn() {
    if (!document.hidden && document.getSelection().type !== "Range") await ask().then(() => tell(null), tell);
    setTimeout(turn, PERIOD_MS);
  }

  function neighbour(cell, key) {
    const cells = [...cell.closest("[role=listbox]").querySelectorAll(".cell")], i = cells.indexOf(cell);
    if (key === "Home") return cells[0];
    if (key === "End") return cells.at(-1);
    if (key === "ArrowRight") return cells[i + 1];
    if (key === "ArrowLeft") return cells[i - 1];
    const here = cell.getBoundingClientRect(), down = key === "ArrowDown";
    if (!down && key !== "ArrowUp") return null;
    const far = each => { const at = each.getBoundingClientRect(); return 10 * Math.abs(at.top - here.top) + Math.abs(at.left - here.left); };
    const beyond = each => { const top = each.getBoundingClientRect().top; return down ? top > here.bottom : top < here.top - 1; };
    return cells.filter(beyond).sort((a, b) => far(a) - far(b))[0];
  }

  document.addEventListener("keydown", event => {
    const cell = event.target.closest?.("[role=option]"), next = cell && neighbour(cell, event.key);
    if (!next) return;
    event.preventDefault();
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  for (const kind of ["focusin", "mouseover", "click"]) {
    document.addEventListener(kind, event => {
      const cell = event.target.closest?.("[role=option]");
      if (cell) point(cell);
    });
  }
  document.addEventListener("visibilitychange", () => document.hidden || ask().then(() => tell(null), tell));
  turn();
})();

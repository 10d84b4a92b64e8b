// Keeps a page fresh: asks again for the address that its changing part names, and brings what is shown in line with it,
// node by node, so that focus, selection, choices and hover text stay. While the server is away, the last figures stay
// and the notice says so.
"use strict";

const EVERY_MS = 2000; // often enough to watch a rotation happen, where the page asks for nothing else
const PATIENCE_MS = 6000; // the server gives up on its database after 5 s, and then it still has to say so

// What the reader has opened stays open, and what was pressed stays pressed.
const KEPT = new Set(["open", "data-pressed", "aria-busy"]);

const live = document.getElementById("figures");
const every = Number(live?.dataset.every ?? EVERY_MS);
const notice = document.getElementById("notice");
let timer = null;
let underWay = false;

async function refresh() {
  clearTimeout(timer);
  if (underWay) return;
  underWay = true;
  try {
    const answer = await fetch(live.dataset.live, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const figures = page.getElementById("figures");
    if (answer.ok && figures) {
      if (figures.dataset.title) document.title = figures.dataset.title;
      bringInLine(document.getElementById("figures"), figures);
      say("");
    } else {
      sayStale(page.querySelector("h1")?.textContent ?? `The server answers with status ${answer.status}`);
    }
  } catch {
    sayStale("The server does not answer");
  } finally {
    underWay = false;
  }
  // A tab that nobody sees asks for nothing.
  if (!document.hidden) timer = setTimeout(refresh, every);
}

function sayStale(why) {
  const since = document.getElementById("as-of").title;
  say(`${why}. These figures are from ${since}; they are asked for again every ${every / 1000} s.`);
}

function say(text) {
  // Screen readers speak the notice whenever it changes, so it must not change without need.
  if (notice.textContent !== text) notice.textContent = text;
}

function bringInLine(shown, wanted) {
  for (const { name } of [...shown.attributes]) {
    if (!KEPT.has(name) && !wanted.hasAttribute(name)) shown.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  const wantedKeys = new Set([...wanted.children].map(keyOf));
  for (const child of [...shown.children]) if (!wantedKeys.has(keyOf(child))) child.remove();

  let place = shown.firstChild;
  for (const node of [...wanted.childNodes]) {
    if (place && isSame(place, node)) {
      const next = place.nextSibling;
      if (node.nodeType === Node.ELEMENT_NODE) bringInLine(place, node);
      else if (place.nodeValue !== node.nodeValue) place.nodeValue = node.nodeValue;
      place = next;
    } else {
      if (keyOf(node)) node.classList.add("new");
      shown.insertBefore(node, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// What a row is about; a row without a key is known by its place.
function keyOf(node) {
  return node.dataset?.key;
}

function isSame(shown, wanted) {
  return shown.nodeName === wanted.nodeName && keyOf(shown) === keyOf(wanted);
}

if (live) {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  if (!document.hidden) timer = setTimeout(refresh, every);
}

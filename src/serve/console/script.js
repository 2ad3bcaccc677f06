// Live updates and countdowns. Everything works without this file; it only spares reloading.
//
// News comes as events that say no more than that something changed. The page is then asked for again, and the parts of it
// that are marked `data-live` are replaced by what the server has rendered: nothing is built from text here.
"use strict";

const body = document.body;
const skew = Number(body.dataset.now) - Date.now();
const status = document.getElementById("status");
const lost = document.getElementById("lost");
let waiting = null;
let asking = false;
let again = false;

function say(text) {
  if (status) status.textContent = text;
}

/** "4 min 12 s": as the server says it. */
function left(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s === 0) return "time is up";
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  if (d > 0) return `${d} d ${h} h left`;
  if (h > 0) return `${h} h ${m} min left`;
  if (m > 0) return `${m} min ${s % 60} s left`;
  return `${s} s left`;
}

function tick() {
  const now = Date.now() + skew;
  for (const each of document.querySelectorAll("[data-ends]")) {
    const ms = Number(each.dataset.ends) - now;
    const text = left(ms);
    if (each.textContent !== text) each.textContent = text;
    each.classList.toggle("soon", ms < 60000);
  }
}

function items(root) {
  return new Set(Array.from(root.querySelectorAll("[data-item]"), (each) => each.dataset.item));
}

/** What an element holds, but for the clocks in it. */
function bare(element) {
  const copy = element.cloneNode(true);
  for (const clock of copy.querySelectorAll("[data-ends]")) clock.replaceChildren();
  for (const each of copy.querySelectorAll(".new, .soon")) each.classList.remove("new", "soon");
  return copy.innerHTML.replaceAll(' class=""', "");
}

/** Puts the server's new rendering in place of the old one, and the focus back to where it was. */
function replace(fresh) {
  const before = items(document);
  const focused = document.activeElement;
  let changed = false;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next) {
      old.remove();
      continue;
    }
    if (bare(next) === bare(old)) continue;
    // What somebody is filling in stays, unless it is no longer asked for.
    const form = old.querySelector("form");
    if (form && next.querySelector("form") && (form.contains(focused) || touched(form))) continue;
    const key = old.contains(focused) ? focused.id || focused.getAttribute("href") : null;
    old.replaceWith(next);
    changed = changed || next.tagName === "SECTION";
    if (key) {
      const link = Array.from(next.querySelectorAll("a, button, input, textarea"))
        .find((each) => each.id === key || each.getAttribute("href") === key);
      (link || document.getElementById("main")).focus({ preventScroll: true });
    }
  }
  document.title = fresh.title;
  let arrived = 0;
  for (const each of document.querySelectorAll("[data-item]")) {
    if (!before.has(each.dataset.item)) {
      each.classList.add("new");
      arrived += 1;
    }
  }
  if (arrived > 0) say(arrived === 1 ? "One new request waits." : `${arrived} new requests wait.`);
  else if (changed && body.dataset.changed) say(body.dataset.changed);
  tick();
}

function touched(form) {
  return Array.from(form.elements).some((each) =>
    each.type === "checkbox" ? each.checked !== each.defaultChecked
      : "defaultValue" in each && each.type !== "hidden" && each.value !== each.defaultValue);
}

async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(location.href, {
      headers: { "Toolgate-Console": "refresh" }, cache: "no-store",
    });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    // Signed out, or gone: then it is another page, which is shown when this one is loaded anew.
    if (answer.ok && fresh.body.dataset.now) replace(fresh);
  } catch {
    // The event stream says that the connection is lost, and asks again once it is back.
  } finally {
    asking = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

/** Several events at once are one look. */
function soon() {
  if (waiting !== null) return;
  waiting = setTimeout(() => {
    waiting = null;
    refresh();
  }, 100);
}

function listen() {
  const events = new EventSource("/events");
  events.addEventListener("open", () => {
    lost.hidden = true;
    // Whatever happened while nobody listened: since the page was rendered, or since the connection was lost.
    soon();
    body.dataset.listening = "yes";
  });
  for (const name of ["approval", "quarantine", "policy", "reset"]) events.addEventListener(name, soon);
  events.addEventListener("ended", () => {
    events.close();
    lost.textContent = "You are signed out. Reload this page to sign in again.";
    lost.hidden = false;
  });
  events.addEventListener("error", () => {
    lost.textContent = events.readyState === EventSource.CLOSED
      ? "Live updates have ended. Reload this page."
      : "The connection to the gate is lost; what is shown may be old. Trying again.";
    lost.hidden = false;
  });
  window.addEventListener("pagehide", () => events.close());
  // Back from the browser's own store of pages: older than it looks.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}

/** j and k (or the arrows) go through a list; / is left to the browser. */
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, pre")) return;
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const links = Array.from(document.querySelectorAll("[data-item] h2 a"));
  if (links.length === 0) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
  links[next].focus();
  event.preventDefault();
}

/** A form is sent once. */
function once(event) {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
}

tick();
setInterval(tick, 1000);
document.addEventListener("submit", once);
document.addEventListener("keydown", keys);
if (body.dataset.events === "yes") listen();

/* Every page works without this file. It saves a click here and there, and shows times in the reader's own zone. */
"use strict";

const POLL_MILLISECONDS = 2500;
const COPIED_MILLISECONDS = 2500;

function followAtOnce(link) {
  window.location.replace(link.href);
}

async function reloadWhenDone(card) {
  const waiting = card.dataset.status;
  while (true) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
    if (document.hidden) continue;
    const response = await fetch(window.location.href, { credentials: "same-origin" }).catch(() => null);
    if (!response) continue;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const status = page.querySelector("[data-status]")?.dataset.status;
    if (status !== waiting) {
      window.location.reload();
      return;
    }
  }
}

function offerCopy(button) {
  if (!navigator.clipboard) return;
  const label = [...button.childNodes];
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = document.getElementById(button.dataset.copy);
    await navigator.clipboard.writeText(copied ? copied.textContent : window.location.href);
    button.replaceChildren("Copied");
    setTimeout(() => button.replaceChildren(...label), COPIED_MILLISECONDS);
  });
}

function sendOnce(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    event.submitter?.setAttribute("aria-busy", "true");
  });
}

function forgetSent() {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
}

function closeOpenQuestion(event) {
  if (event.key !== "Escape") return;
  const open = event.target.closest("details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
}

/* My connections shows what happens while it is open: an event says that something did, and the page is asked what. */

const EVENTS = [
  "authorization.required", "authorization.completed", "authorization.failed", "token.refreshed", "token.expiring_soon",
  "token.refresh_failed", "reauthorization.required", "credentials.revoked", "client_secret.expiring", "issuer.changed",
];
const RENEW_MILLISECONDS = 150;
const RETURN_MILLISECONDS = 30000;

function liveRegions(root) {
  return new Map([...root.querySelectorAll("[data-live]")].map((region) => [region.dataset.live, region]));
}

function isBusy(region) {
  const typed = region.contains(document.activeElement) && document.activeElement.matches("input");
  return typed || region.querySelector("details[open], form[data-sent]") !== null;
}

function replaceRegion(region, fresh) {
  if (region.textContent === fresh.textContent) return true;
  if (isBusy(region)) return false;
  region.replaceWith(fresh);
  enhance(fresh);
  return true;
}

/* Returns whether all of it could be shown: what somebody is busy with stays as it is for the moment. */
function showPage(page) {
  const [shown, fresh] = [liveRegions(document), liveRegions(page)];
  const isSameList = [...shown.keys()].join() === [...fresh.keys()].join();
  if (isSameList) return [...shown].map(([key, region]) => replaceRegion(region, fresh.get(key))).every(Boolean);
  const list = document.querySelector("[data-live-list]");
  const head = replaceRegion(shown.get("head"), fresh.get("head"));
  return replaceRegion(list, page.querySelector("[data-live-list]")) && head;
}

class LivePage {
  constructor(cursor) {
    this.cursor = cursor;
    this.source = null;
    this.timer = null;
  }

  /* Only the page that somebody looks at listens: a browser opens few connections to one site. */
  listen() {
    if (this.source || document.hidden) return;
    this.source = new EventSource(`/api/v1/events?after=${this.cursor}`);
    for (const name of EVENTS) {
      this.source.addEventListener(name, (event) => {
        this.cursor = event.lastEventId;
        this.renewSoon(RENEW_MILLISECONDS);
      });
    }
    this.source.addEventListener("error", () => {
      if (this.source?.readyState !== EventSource.CLOSED) return;
      this.rest();
      setTimeout(() => this.listen(), RETURN_MILLISECONDS);
    });
  }

  rest() {
    this.source?.close();
    this.source = null;
  }

  renewSoon(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.renew(), milliseconds);
  }

  async renew() {
    const response = await fetch(window.location.href, { credentials: "same-origin" }).catch(() => null);
    if (!response?.ok || response.redirected) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (page.querySelector("[data-live-list]") && !showPage(page)) this.renewSoon(POLL_MILLISECONDS);
  }
}

function stayLive(marker) {
  if (!window.EventSource) return;
  const live = new LivePage(marker.dataset.eventsAfter);
  document.addEventListener("visibilitychange", () => (document.hidden ? live.rest() : live.listen()));
  window.addEventListener("pagehide", () => live.rest());
  window.addEventListener("pageshow", () => live.listen());
  live.listen();
}

function enhance(root) {
  root.querySelectorAll("form[method=post]").forEach(sendOnce);
  root.querySelectorAll("time[datetime]").forEach((time) => {
    time.title = new Date(time.dateTime).toLocaleString();
  });
}

document.querySelectorAll("a[data-follow]").forEach(followAtOnce);
document.querySelectorAll("[data-poll]").forEach(reloadWhenDone);
document.querySelectorAll("[data-copy], [data-copy-address]").forEach(offerCopy);
document.querySelectorAll("[data-events-after]").forEach(stayLive);
enhance(document);
document.addEventListener("keydown", closeOpenQuestion);
window.addEventListener("pageshow", forgetSent);

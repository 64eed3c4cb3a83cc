/* Every page works without this file. It saves a click here and there, and shows times in the reader's own zone. */
"use strict";

const POLL_MILLISECONDS = 2500;

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
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(window.location.href);
    button.textContent = "Copied";
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

document.querySelectorAll("a[data-follow]").forEach(followAtOnce);
document.querySelectorAll("[data-poll]").forEach(reloadWhenDone);
document.querySelectorAll("[data-copy-address]").forEach(offerCopy);
document.querySelectorAll("form[method=post]").forEach(sendOnce);
document.querySelectorAll("time[datetime]").forEach((time) => {
  time.title = new Date(time.dateTime).toLocaleString();
});
document.addEventListener("keydown", closeOpenQuestion);
window.addEventListener("pageshow", forgetSent);

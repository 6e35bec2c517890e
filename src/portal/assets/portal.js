// What the pages can do with a script. All of them work without it.
"use strict";

// The token of a link stands behind the `#`: it goes into the form, and out of the address.
function enter() {
  const form = document.getElementById("enter");
  const token = location.hash.slice(1);
  if (!form || !token) return;
  history.replaceState(null, "", location.pathname);
  form.elements.link.value = token;
  form.submit();
}

const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// Times in the zone of whoever reads. The title keeps UTC.
function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) time.textContent = zone.format(at);
  }
}

function offerCopies(root) {
  for (const text of root.querySelectorAll("[data-copy]")) {
    if (text.nextElementSibling?.classList.contains("copy") || !navigator.clipboard) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    text.after(button);
  }
}

function prepare(root) {
  localise(root);
  offerCopies(root);
}

addEventListener("DOMContentLoaded", () => {
  prepare(document);
  enter();
  document.getElementById("notice")?.focus();
});

// htmx has put a part of a page in place of another.
document.addEventListener("htmx:afterSwap", () => {
  prepare(document);
  if (document.activeElement === document.body) document.getElementById("notice")?.focus();
});

// What a page asks for by itself keeps no session alive, and asks for nothing where nobody looks, or somebody reads.
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.dataset.byItself !== undefined) event.detail.headers["x-by-itself"] = "1";
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.dataset.byItself === undefined) return;
  const part = event.detail.target;
  const read = part.querySelector("details[open]") || part.contains(document.activeElement);
  if (document.hidden || read) event.preventDefault();
});

// Only those event types are asked for that belong to the choice.
document.addEventListener("change", (event) => {
  if (event.target.name === "event_types") document.getElementById("some")?.click();
});

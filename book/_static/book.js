// What the theme leaves open for those who use a keyboard or a screen reader.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");
  for (const block of document.querySelectorAll("pre")) block.tabIndex = 0; // wide ones scroll
  const names = { "sidebar-drawer": "The book", "toc-drawer": "On this page" };
  for (const aside of document.querySelectorAll("aside")) {
    const name = Object.keys(names).find((one) => aside.classList.contains(one));
    if (name) aside.setAttribute("aria-label", names[name]);
  }
});

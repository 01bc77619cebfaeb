
"use strict";
// An enhancement only: without it the page shows the same content, in order of score.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const wasUp = head.getAttribute("aria-sort") === "ascending";
      const value = (body) => {
        const cell = body.rows[0].cells[column];
        return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
      };
      const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      const bodies = [...table.tBodies].sort((a, b) => order(value(a), value(b)) * (wasUp ? -1 : 1));
      table.append(...bodies);
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", wasUp ? "descending" : "ascending");
    });
  });
}
for (const box of document.querySelectorAll("[data-filter]")) {
  const table = document.getElementById(box.dataset.filter);
  const input = box.querySelector("input");
  const status = box.querySelector("output");
  box.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    let shown = 0;
    for (const body of table.tBodies) {
      body.hidden = !body.textContent.toLowerCase().includes(wanted);
      shown += body.hidden ? 0 : 1;
    }
    status.textContent = wanted ? `${shown} shown` : "";
  });
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
  });
}

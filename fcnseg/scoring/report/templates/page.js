"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
    const falling = header.getAttribute("aria-sort") !== "descending" && column > 0
      || header.getAttribute("aria-sort") === "ascending";
    headers.forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // rows without a figure come last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return falling ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const figure of document.querySelectorAll("figure.case")) {
  const buttons = [...figure.querySelectorAll("button")];
  const slider = figure.querySelector("input");
  const show = button => {
    figure.dataset.view = button.dataset.show;
    slider.disabled = button.dataset.show !== "slide";
    buttons.forEach(other => other.setAttribute("aria-pressed", other === button));
  };
  buttons.forEach(button => button.addEventListener("click", () => show(button)));
  slider.addEventListener("input", () => figure.style.setProperty("--cut", slider.value + "%"));
  figure.addEventListener("keydown", event => {
    if (event.key.toLowerCase() !== "f" || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = buttons.findIndex(button => button.dataset.show === figure.dataset.view);
    show(buttons[(now + 1) % buttons.length]);
  });
}

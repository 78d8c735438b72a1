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
for (const box of document.querySelectorAll(".browse")) {
  const data = JSON.parse(box.querySelector("script.data").textContent);
  const portion = 50;
  const query = box.querySelector("input"), chosen = box.querySelector("select");
  const body = box.querySelector("tbody"), head = box.querySelector("thead tr"), more = box.querySelector(".more");
  let thumbnails = null, order = null, shown = portion;
  const state = { column: null, falling: false };
  const pictures = () => thumbnails ??= JSON.parse(box.querySelector("script.thumbnails")?.textContent ?? "[]");
  const hasPictures = box.querySelector("script.thumbnails") !== null;
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== null) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  if (chosen) {
    const seen = new Set(data.classRows.flatMap(row => row.map(([index]) => index)));
    data.classes.forEach((name, index) => { if (seen.has(index)) chosen.append(element("option", name, { value: index })); });
  }
  const ofClass = (row, index) => data.classRows[row].find(([own]) => own === index)?.[1];
  const text = (value, kind) => value === null || value === undefined ? "–"
    : kind === "share" ? (100 * value).toFixed(1) : kind === "fine" ? (100 * value).toFixed(3) : kind === "count" ? value.toLocaleString("en-US") : value;
  const columns = () => chosen?.value
    ? [...data.columns, { title: `IoU of ${data.classes[chosen.value]}, %`, kind: "share" }] : data.columns;
  const value = (row, column) => column < data.columns.length ? data.rows[row][column] : ofClass(row, +chosen.value);
  const select = () => {
    const part = query.value.trim().toLowerCase();
    order = data.rows.map((_, row) => row).filter(row => data.rows[row][0].toLowerCase().includes(part)
      && (!chosen?.value || ofClass(row, +chosen.value) !== undefined));
    if (state.column !== null) order.sort((a, b) => {
      const [x, y] = [value(a, state.column) ?? null, value(b, state.column) ?? null];
      if (x === null || y === null) return (x === null) - (y === null); // rows without a figure come last
      const less = typeof x === "string" ? x.localeCompare(y) : x - y;
      return state.falling ? -less : less;
    });
    shown = portion;
    draw();
  };
  const open = (button, row, line) => {
    if (button.getAttribute("aria-expanded") === "true") {
      button.setAttribute("aria-expanded", "false");
      line.nextSibling.remove();
      return;
    }
    button.setAttribute("aria-expanded", "true");
    const cell = element("td", null, { colspan: columns().length });
    const uri = pictures()[row];
    cell.append(uri ? element("img", null, { src: uri, alt: `Ground truth, prediction and errors of ${data.rows[row][0]}` })
      : element("span", "no thumbnail in this page"));
    const extra = element("tr", null, { class: "thumbnail" });
    extra.append(cell);
    line.after(extra);
  };
  const drawRow = row => {
    const line = element("tr", null);
    columns().forEach(({ kind }, column) => {
      const cell = element(column ? "td" : "th", null, column ? {} : { scope: "row" });
      if (!column && hasPictures) {
        const button = element("button", data.rows[row][0], { type: "button", class: "open", "aria-expanded": "false" });
        button.addEventListener("click", () => open(button, row, line));
        cell.append(button);
      } else cell.textContent = text(value(row, column), kind);
      line.append(cell);
    });
    return line;
  };
  const draw = () => {
    head.replaceChildren(...columns().map(({ title }, column) => {
      const cell = element("th", null, { scope: "col" });
      if (state.column === column) cell.setAttribute("aria-sort", state.falling ? "descending" : "ascending");
      const button = element("button", title, { type: "button" });
      button.addEventListener("click", () => {
        state.falling = state.column === column ? !state.falling : false;
        state.column = column;
        select();
        head.cells[column].querySelector("button").focus();
      });
      cell.append(button);
      return cell;
    }));
    body.replaceChildren(...order.slice(0, shown).map(drawRow));
    finish();
  };
  const finish = () => {
    more.hidden = shown >= order.length;
    box.querySelector(".found").textContent = `${order.length.toLocaleString("en-US")} of ${data.rows.length.toLocaleString("en-US")} images`;
  };
  more.addEventListener("click", () => {
    body.append(...order.slice(shown, shown + 4 * portion).map(drawRow));
    shown += 4 * portion;
    finish();
  });
  query.addEventListener("input", select);
  chosen?.addEventListener("change", () => {
    Object.assign(state, { column: chosen.value ? data.columns.length : null, falling: false });
    select();
  });
  select();
}

"use strict";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// --- light and dark: the system's choice until the button is used
{
  const root = document.documentElement, button = find("#theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const tell = () => { button.textContent = dark() ? "light" : "dark"; button.setAttribute("aria-label", `switch to ${button.textContent} colours`); };
  try { const kept = localStorage.getItem("mdebench-theme"); if (kept) root.dataset.theme = kept; } catch { /* a browser may keep nothing for files */ }
  button.hidden = false;
  button.onclick = () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("mdebench-theme", root.dataset.theme); } catch { /* as above */ }
    tell();
  };
  system.onchange = tell;
  tell();
}

// --- sorting: the best first, again the other way round; what is missing stays last
for (const table of all("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
  rows.forEach((row, place) => { row.dataset.place = place; });
  const value = (row, i) => {
    const cell = row.cells[i];
    if (i === 0) return Number(row.dataset.place);
    if (heads[i].dataset.better) return cell.dataset.value ? Number(cell.dataset.value) : null;
    return cell.textContent;
  };
  heads.forEach((head, i) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const first = head.dataset.better === "up" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", now);
      const sign = now === "ascending" ? 1 : -1;
      body.append(...rows.toSorted((one, two) => {
        const a = value(one, i), b = value(two, i);
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
      }));
    };
  });
}

// --- where a number is from: its rows in a window; without scripts the link leads to the row itself
{
  const dialog = find("#origin"), text = find("#origin-text");
  const facts = (row) => {
    const unit = row.closest(".unit"), show = make("a", { href: `#${row.id}` }, "show it among its neighbours");
    show.onclick = () => dialog.close();
    return [make("h3", {}, find("summary", unit).textContent), make("p", {}, row.textContent), find("dl", unit).cloneNode(true), make("p", {}, show)];
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-rows]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    text.replaceChildren(...link.dataset.rows.split(" ").flatMap((id) => facts(document.getElementById(id))));
    dialog.showModal();
    dialog.scrollTop = 0;
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  const reveal = () => { // a row within closed details
    const row = location.hash && document.getElementById(location.hash.slice(1));
    if (!row) return;
    for (let box = row.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    row.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
}

// --- contents: folded on a phone
if (innerWidth < 700) find("nav details").open = false;

// --- the gallery: tiles cut from the strips that are in the page already
if (find("#viewer")) {
  const exhibits = all(".exhibit").map((box) => ({
    title: find("summary", box).textContent,
    columns: Number(box.dataset.columns),
    rows: box.dataset.rows.split("|"),
    shared: find(".shared img", box),
    runs: all(":scope > figure", box).map((figure) => ({ name: find("figcaption", figure).textContent.trim(), sheet: find("img", figure) })),
  }));
  const pickExhibit = find("#pick-exhibit"), pickRun = find("#pick-run");
  let image = 0, run = "";

  const tile = (sheet, columns, row, column, caption) => {
    const canvas = make("canvas", { role: "img" });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    sheet.decode().then(() => {
      const side = sheet.naturalWidth / columns;
      canvas.width = canvas.height = Math.round(side);
      canvas.getContext("2d").drawImage(sheet, column * side, row * side, side, side, 0, 0, canvas.width, canvas.height);
    }).catch(() => { canvas.setAttribute("aria-label", `${caption} (cannot be shown)`); });
    return canvas;
  };
  const framed = (canvas, caption) => make("figure", {}, canvas, make("figcaption", {}, caption));
  const pressed = (button, on) => { button.setAttribute("aria-pressed", on); return button; };

  const draw = () => {
    const it = exhibits[pickExhibit.value], own = it.runs.find((each) => each.name === run) || it.runs[0];
    run = own.name;
    image = (image + it.columns) % it.columns;
    const many = it.rows.length > 2, named = (what) => `image ${image + 1}, ${it.title}: ${what}`;
    find("#which").textContent = `image ${image + 1} of ${it.columns}`;
    find("#thumbs").replaceChildren(...Array.from({ length: it.columns }, (_, i) => pressed(make("button", {
      type: "button", onclick: () => { image = i; draw(); },
    }, tile(it.shared, it.columns, 0, i, `choose image ${i + 1}`)), i === image)));
    const original = framed(tile(it.shared, it.columns, 0, image, named("the original")), "original");
    const made = it.rows.map((what, row) => framed(tile(own.sheet, it.columns, row, image, named(`${what} by ${own.name}`)), what));
    const seen = framed(tile(it.shared, it.columns, 1, image, named("what was seen, with the boxes")), "what was seen");
    find("#stage").classList.toggle("many", many);
    find("#stage").replaceChildren(...(many ? [original, ...made] : [seen, ...made, original]));
    const last = many ? it.rows.length - 1 : 0;
    find("#others-title").textContent = `${it.rows[last]} by every run`;
    find("#others").replaceChildren(...it.runs.map((each) => framed(pressed(make("button", {
      type: "button", onclick: () => { run = each.name; pickRun.value = run; draw(); },
    }, tile(each.sheet, it.columns, last, image, `choose ${each.name}`)), each === own), each.name)));
  };
  const fill = () => {
    const it = exhibits[pickExhibit.value];
    pickRun.replaceChildren(...it.runs.map((each) => make("option", { value: each.name }, each.name)));
    if (!it.runs.some((each) => each.name === run)) run = it.runs.at(-1).name;
    pickRun.value = run;
    draw();
  };
  pickExhibit.append(...exhibits.map((it, i) => make("option", { value: i }, it.title)));
  pickExhibit.onchange = fill;
  pickRun.onchange = () => { run = pickRun.value; draw(); };
  find("#previous").onclick = () => { image -= 1; draw(); };
  find("#next").onclick = () => { image += 1; draw(); };
  find("#viewer").hidden = false;
  fill();
}

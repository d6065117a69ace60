// Saves figures as SVG, PNG and data, copies tables as CSV and LaTeX: made here, asked of nobody.
(() => {
  "use strict";
  const NS = "http://www.w3.org/2000/svg";
  const FONT = "Helvetica, Arial, Liberation Sans, sans-serif";
  const { page, views } = report;
  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40).replace(/-+$/, "");
  const study = slug(document.title) || "study";
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = `12px ${FONT}`;

  // Outside the page there are no variables: every colour becomes that of the light theme.
  const light = [...document.styleSheets[0].cssRules].find((rule) => rule.selectorText === ":root").style;
  const resolved = (text) => text.replace(/var\((--[\w-]+)\)/g, (_, name) => light.getPropertyValue(name).trim());
  const SHADES = {
    "input-input": { fill: "arm-0" },
    "target-input": { fill: "arm-4" },
    "target-target": { fill: "arm-2" },
    unseen: { fill: "sunken" },
    "weights-a": { fill: "arm-7" },
    "weights-b": { fill: "arm-3" },
    texture: { stroke: "surface" },
  };

  function element(name, attributes, ...children) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // A copy of a drawing that means the same in any other program.
  function standalone(drawing) {
    for (const node of [drawing, ...drawing.querySelectorAll("*")]) {
      for (const { name, value } of [...node.attributes]) {
        if (name === "font-family") node.setAttribute(name, FONT);
        else if (name === "style") node.setAttribute(name, resolved(value).replace(/font-family:[^;]*/g, `font-family: ${FONT}`));
        else if (value.includes("var(--")) node.setAttribute(name, resolved(value));
      }
      for (const [attribute, variable] of Object.entries(SHADES[node.getAttribute("class")] ?? {}))
        node.setAttribute(attribute, resolved(`var(--${variable})`));
      if (node.getAttribute("class") === "texture")
        for (const [key, value] of [["stroke-width", 2], ["fill", "none"], ["stroke-linecap", "round"]]) node.setAttribute(key, value);
    }
    return drawing;
  }

  const label = (text, x, y, more = {}) =>
    element("text", { x, y, "font-family": FONT, "font-size": 12, fill: resolved("var(--ink)"), ...more }, text);

  function sheet(title, width, height, ...content) {
    const white = element("rect", { width, height, fill: "#ffffff" });
    const size = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title };
    return element("svg", size, element("title", {}, title), white, ...content);
  }

  // The arms above a chart, as the page has them in its legend; returns the marks and their height.
  function legend(figure, width) {
    const marks = [];
    let x = 8;
    let y = 16;
    for (const chip of figure.querySelectorAll(".chip")) {
      const line = chip.querySelector("line");
      const text = chip.textContent.trim().replace(/\s+/g, " ");
      const wide = 28 + ruler.measureText(text).width + 18;
      if (x > 8 && x + wide > width) [x, y] = [8, y + 20];
      const stroke = resolved(line.getAttribute("stroke"));
      const dashes = line.getAttribute("stroke-dasharray");
      marks.push(element("line", { x1: x, x2: x + 22, y1: y - 4, y2: y - 4, stroke, "stroke-width": 3, "stroke-dasharray": dashes }));
      marks.push(label(text, x + 28, y));
      x += wide;
    }
    return [marks, marks.length ? y + 12 : 0];
  }

  async function chartSheet(figure, name) {
    const view = views.get(name);
    try {
      await view.signal("highlight", false).runAsync(); // a picked arm is for the screen
    } catch {} // the forest plot has no arms
    const text = await view.toSVG();
    report.highlight();
    const drawing = standalone(new DOMParser().parseFromString(text, "image/svg+xml").documentElement);
    const width = Math.ceil(Number(drawing.getAttribute("width")));
    const height = Math.ceil(Number(drawing.getAttribute("height")));
    const [marks, above] = legend(figure, width);
    drawing.setAttribute("y", above);
    drawing.removeAttribute("style");
    return sheet(`${figure.dataset.title}. ${shown(name).spec.description ?? ""}`, width, height + above, ...marks, drawing);
  }

  function pictureSheet(figure) {
    const arm = figure.querySelector("h3").textContent.trim();
    const content = [label(arm, 8, 18, { "font-weight": 600 })];
    let [x, bottom] = [8, 0];
    for (const pattern of figure.querySelectorAll(".patterns > div")) {
      const drawing = standalone(pattern.querySelector("svg").cloneNode(true));
      for (const text of drawing.querySelectorAll("text"))
        for (const [key, value] of [["font-family", FONT], ["font-size", 11], ["fill", resolved("var(--muted)")]]) text.setAttribute(key, value);
      const [width, height] = ["width", "height"].map((side) => Number(drawing.getAttribute(side)));
      drawing.setAttribute("x", x);
      drawing.setAttribute("y", 28);
      const where = pattern.querySelector("p").textContent.trim();
      content.push(drawing, label(where, x, 28 + height + 16, { fill: resolved("var(--muted)") }));
      x += Math.max(width, ruler.measureText(where).width) + 20;
      bottom = Math.max(bottom, height);
    }
    const wide = Math.ceil(Math.max(x, ruler.measureText(arm).width * 1.1 + 20));
    return sheet(`Who sees whom: ${arm}`, wide, bottom + 56, ...content);
  }

  const svgText = (drawing) => `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(drawing)}\n`;

  async function png(drawing) {
    const [width, height] = ["width", "height"].map((side) => Number(drawing.getAttribute(side)));
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(drawing))}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 3 * width, height: 3 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 3 * width, 3 * height);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  // What a spreadsheet would take for a formula begins with an apostrophe instead.
  function field(value) {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = /^[=@\t\r]|^[+-][^0-9.\s]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }
  const csv = (rows) => rows.map((row) => `${row.map(field).join(",")}\r\n`).join("");

  const shown = (name) => page.charts[name][Number(document.getElementById(`chart-${name}`).dataset.drawn ?? 0)];

  function chartData(name) {
    const sets = shown(name).data;
    const columns = [...new Set(sets.flatMap((set) => page.data[set].flatMap((row) => Object.keys(row))))];
    const rows = sets.flatMap((set) => page.data[set].map((row) => [set, ...columns.map((column) => row[column])]));
    return csv([["dataset", ...columns], ...rows]);
  }

  function tableData(table) {
    const value = (cell) => {
      const tag = cell.querySelector(".tag")?.textContent;
      const text = cell.classList.contains("code") && cell.title ? cell.title : cell.firstChild?.textContent.trim() ?? "";
      const plain = text.replace(/\u2212(?=[\d.])/g, "-").replace(/(?<=\d)\u202f(?=\d)/g, "");
      return tag ? `${plain} (${tag})` : plain;
    };
    return csv([...table.rows].map((row) => [...row.cells].map(value)));
  }

  function save(content, name, type) {
    const blob = content instanceof Blob ? content : new Blob([content], { type });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {} // no such interface, or not allowed: pages opened from disk
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand("copy");
    } catch {}
    area.remove();
    return done;
  }

  function offer(text) {
    const dialog = document.getElementById("copy-from");
    const area = dialog.querySelector("textarea");
    area.value = text;
    dialog.showModal();
    area.select();
  }

  function say(button, text) {
    const before = button.dataset.label ?? button.textContent;
    button.dataset.label = before;
    button.textContent = text;
    document.getElementById("said").textContent = `${before}: ${text}`;
    clearTimeout(Number(button.dataset.timer));
    button.dataset.timer = setTimeout(() => (button.textContent = before), 1800);
  }

  const figureName = (figure) => figure.dataset.chart ?? `visibility-${slug(figure.querySelector("h3").textContent)}`;
  const viewName = (name) => (page.charts[name]?.length > 1 ? `-${slug(shown(name).label)}` : "");

  async function act(button) {
    const figure = button.closest("figure");
    const form = button.dataset.save;
    if (button.dataset.copy) {
      const holder = button.closest("[data-table]");
      const text = {
        csv: () => tableData(holder.querySelector("table")),
        latex: () => holder.querySelector("template").content.textContent,
        command: () => document.getElementById("command").textContent,
      }[button.dataset.copy]();
      if (await copied(text)) say(button, "Copied");
      else offer(text);
      return;
    }
    const name = figureName(figure);
    const file = `${study}-${name}${viewName(name)}`;
    if (form === "csv") save(chartData(name), `${file}.csv`, "text/csv");
    else {
      const drawing = figure.dataset.chart ? await chartSheet(figure, name) : pictureSheet(figure);
      if (form === "svg") save(svgText(drawing), `${file}.svg`, "image/svg+xml");
      else save(await png(drawing), `${file}.png`);
    }
    say(button, "Saved");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-save], [data-copy]");
    if (button) act(button).catch((error) => {
      console.error(error);
      say(button, "Failed");
    });
  });
})();

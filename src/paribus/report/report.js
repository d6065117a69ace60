// Draws the charts, switches their views, highlights an arm in all of them, toggles the theme.
const report = (() => {
  "use strict";
  const page = JSON.parse(document.getElementById("chart-data").textContent);
  const views = new Map(); // chart name -> Vega view
  const drawing = new Map(); // chart name -> promise of its latest drawing
  let picked = false; // the arm that a click has picked
  let hovered = false; // the arm under the pointer or the focus

  function highlight() {
    const arm = hovered || picked;
    for (const view of views.values()) {
      try {
        view.signal("highlight", arm).runAsync();
      } catch {} // the forest plot has no arms
    }
    for (const chip of document.querySelectorAll(".chip")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.arm === picked));
      chip.classList.toggle("faded", Boolean(arm) && chip.dataset.arm !== arm);
    }
  }

  async function draw(name, index) {
    await drawing.get(name)?.catch(() => {});
    const { spec, data } = page.charts[name][index];
    const place = document.getElementById(`chart-${name}`);
    views.get(name)?.finalize();
    const datasets = Object.fromEntries(data.map((key) => [key, page.data[key]]));
    const { view } = await vegaEmbed(
      place,
      { ...spec, datasets },
      {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        defaultStyle: false,
        ast: true, // expressions are interpreted, never compiled: the page allows no eval
        tooltip: { disableDefaultStyle: true },
      },
    );
    views.set(name, view);
    place.dataset.drawn = String(index);
    highlight();
  }

  function schedule(name, index) {
    const done = draw(name, index);
    drawing.set(name, done);
    return done;
  }

  for (const chooser of document.querySelectorAll("[data-views]")) {
    chooser.addEventListener("change", (event) => schedule(chooser.dataset.views, Number(event.target.value)));
  }
  for (const chip of document.querySelectorAll(".chip")) {
    const arm = chip.dataset.arm;
    chip.addEventListener("click", () => {
      picked = picked === arm ? false : arm;
      hovered = false;
      highlight();
    });
    chip.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse") return;
      hovered = arm;
      highlight();
    });
    chip.addEventListener("pointerleave", () => {
      hovered = false;
      highlight();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || (!picked && !hovered)) return;
    picked = hovered = false;
    highlight();
  });

  // A browser restores radio buttons when a page is reloaded: draw what they say.
  const chosen = (name) => document.querySelector(`[data-views="${name}"] input:checked`)?.value ?? 0;
  const all = Object.keys(page.charts).map((name) => schedule(name, Number(chosen(name))));
  Promise.all(all).then(() => document.documentElement.setAttribute("data-ready", ""));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const current = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const name = () => toggle.setAttribute("aria-label", current() === "dark" ? "Use light colours" : "Use dark colours");
  toggle.addEventListener("click", () => {
    const next = current() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("paribus-theme", next);
    } catch {}
    name();
  });
  dark.addEventListener("change", name);
  name();

  // The link of the section that is being read.
  const links = new Map([...document.querySelectorAll(".top nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        const link = links.get(target.id);
        if (!link) continue;
        link.setAttribute("aria-current", "true");
        const nav = link.parentElement;
        if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.offsetLeft - nav.clientWidth / 3;
      }
    },
    { rootMargin: "-20% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main > section[id]")) seen.observe(section);

  // Paper has no way to open what is folded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });

  return { page, views, highlight };
})();

// Before the first paint: the theme that the reader chose last, if any. Pages opened from disk may have no storage.
try {
  const chosen = localStorage.getItem("paribus-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {}
document.documentElement.classList.add("scripted");

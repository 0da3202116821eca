"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  // Light and dark. A page opened from a disk may not be allowed to remember.
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.querySelector(".theme");
  const remembered = () => { try { return localStorage.getItem("cytomask-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const tell = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  const before = remembered();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("cytomask-theme", root.dataset.theme); } catch { /* not remembered */ }
    tell();
  });
  system.addEventListener("change", tell);
  tell();

  // Tables: a click on a heading sorts, numbers from the largest.
  for (const table of all("table.sortable")) {
    all("thead button", table).forEach((button) => button.addEventListener("click", () => {
      const head = button.closest("th");
      const column = [...head.parentNode.children].indexOf(head);
      const number = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      const up = now ? now === "descending" : !number;
      all("th", head.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.children[column];
        const text = cell.dataset.value ?? cell.textContent;
        return number ? (text === "" ? NaN : Number(text)) : text;
      };
      const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => {
        if (!number) return (up ? 1 : -1) * a.localeCompare(b, undefined, { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return up ? a - b : b - a;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  }
  for (const box of all(".searchable")) {
    const [field, told, rows] = [box.querySelector("input"), box.querySelector("output"), all("tbody tr", box)];
    box.querySelector(".search").hidden = false;
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      told.textContent = wanted ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` : `${rows.length.toLocaleString("en")} rows`;
    });
  }

  // Layers of a picture: one or none lies over the image.
  const show = (stack, key) => all(".layer", stack).forEach((layer) => { layer.hidden = layer.dataset.layer !== key; });
  const shownLayer = (figure) => figure.querySelector(".layers input:checked")?.value;
  all("figure.layered").forEach((figure) => all(".layers input", figure).forEach((input) =>
    input.addEventListener("change", () => show(figure.querySelector(".stack"), input.value))));

  // A large view of the pictures: wheel, pinch or + and - zoom, arrows turn to the next picture.
  const pictures = all("button.zoom");
  if (pictures.length && window.HTMLDialogElement) {
    const told = make("span", { className: "told" });
    const layers = make("fieldset", { className: "layers" });
    const button = (text, label, act) => {
      const node = make("button", { type: "button", textContent: text, title: label });
      node.setAttribute("aria-label", label);
      node.addEventListener("click", act);
      return node;
    };
    const stage = make("div", { className: "stage", tabIndex: 0 });
    const dialog = make("dialog", {},
      make("div", { className: "zoombar" }, told, layers,
        button("‹", "Previous picture (arrow left)", () => turn(-1)), button("›", "Next picture (arrow right)", () => turn(1)),
        button("−", "Zoom out (-)", () => zoom(1 / 1.4)), button("+", "Zoom in (+)", () => zoom(1.4)),
        button("Fit", "Fit to the window (0)", () => fit()), button("Close", "Close (escape)", () => dialog.close())),
      stage);
    dialog.setAttribute("aria-label", "Large view of a picture");
    document.body.append(dialog);
    let current = null, stack = null, size = [1, 1], scale = 1, x = 0, y = 0;

    const place = () => {
      stack.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      stage.classList.toggle("near", scale > 2.5);
    };
    const fit = () => {
      const bar = dialog.querySelector(".zoombar").offsetHeight;
      const [w, h] = [stage.clientWidth, stage.clientHeight - bar];
      scale = Math.min(w / size[0], h / size[1], 6);
      x = (w - size[0] * scale) / 2;
      y = bar + (h - size[1] * scale) / 2;
      place();
    };
    const zoom = (factor, cx = stage.clientWidth / 2, cy = stage.clientHeight / 2) => {
      const next = Math.min(40, Math.max(0.05, scale * factor));
      x = cx - (cx - x) * next / scale;
      y = cy - (cy - y) * next / scale;
      scale = next;
      place();
    };
    const open = (source) => {
      current = source;
      const figure = source.closest("figure");
      stack = source.querySelector(".stack").cloneNode(true);
      const base = stack.querySelector("img");
      size = [Number(base.getAttribute("width")), Number(base.getAttribute("height"))];
      stack.style.width = `${size[0]}px`;
      stack.style.height = `${size[1]}px`;
      all("img", stack).forEach((image) => { image.loading = "eager"; image.draggable = false; });
      stage.replaceChildren(stack);
      const name = figure.closest(".card")?.querySelector("h3")?.textContent;
      told.textContent = figure.classList.contains("layered") ? name ?? base.alt : figure.querySelector("figcaption")?.textContent ?? base.alt;
      layers.replaceChildren(...all(".layers label", figure).map((label) => {
        const copy = label.cloneNode(true);
        const input = copy.querySelector("input");
        input.name = "layers-large";
        input.checked = label.querySelector("input").checked;
        input.addEventListener("change", () => {
          show(stack, input.value);
          const twin = label.querySelector("input");
          twin.checked = true;
          twin.dispatchEvent(new Event("change"));
        });
        return copy;
      }));
      const key = shownLayer(figure);
      if (key) show(stack, key);
      if (!dialog.open) {
        dialog.showModal();
        stage.focus();
      }
      fit();
    };
    const turn = (step) => {
      const group = pictures.filter((other) => other.dataset.group === current.dataset.group);
      open(group[(group.indexOf(current) + step + group.length) % group.length]);
    };
    pictures.forEach((source) => source.addEventListener("click", () => open(source)));
    dialog.addEventListener("close", () => current?.focus({ preventScroll: false }));
    dialog.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const choice = all("input", layers)[Number(event.key) - 1];
      const acts = {
        ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), ArrowUp: () => zoom(1.4), ArrowDown: () => zoom(1 / 1.4),
        "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
      };
      if (choice) choice.click();
      else if (acts[event.key]) acts[event.key]();
      else return;
      event.preventDefault();
    });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
    }, { passive: false });
    const fingers = new Map();
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    stage.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      const here = [event.clientX, event.clientY];
      if (other) {
        const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
        zoom(apart(here, other) / apart(last, other), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
      } else {
        x += here[0] - last[0];
        y += here[1] - last[1];
        place();
      }
      fingers.set(event.pointerId, here);
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
    stage.addEventListener("dblclick", (event) => (scale > 1.9 ? fit() : zoom(3, event.clientX, event.clientY)));
    addEventListener("resize", () => { if (dialog.open) fit(); });
  }

  // The part of the page that is read is marked in the contents.
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  if (links.size && window.IntersectionObserver) {
    const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      links.forEach((link) => link.classList.remove("here"));
      links.get(entry.target.id)?.classList.add("here");
    }), { rootMargin: "-20% 0px -70% 0px" });
    all("section[id]").forEach((section) => watch.observe(section));
  }
  // What is folded away is printed, too.
  addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));
})();

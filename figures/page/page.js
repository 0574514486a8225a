"use strict";
(() => {
  document.documentElement.classList.add("js");

  // Tables: a header button sorts by its column, upwards and then downwards; missing numbers stay last.
  const key = (row, n) => {
    const cell = row.cells[n];
    return "v" in cell.dataset ? (cell.dataset.v === "" ? null : Number(cell.dataset.v)) : cell.textContent;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function sort(head) {
    const table = head.closest("table");
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row, head.cellIndex) }));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return down ? compare(b.key, a.key) : compare(a.key, b.key);
    });
    table.tBodies[0].append(...rows.map((each) => each.row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sort(button.closest("th"));
    });
  }

  // A hint above each table that is wider than its box.
  const boxes = document.querySelectorAll(".scroll");
  const measure = () => boxes.forEach((box) => box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1));
  addEventListener("resize", measure);
  document.addEventListener("toggle", measure, true);
  measure();

  // A link to a section that is folded opens it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.querySelector(":scope > details");
    if (folded && !folded.open) {
      folded.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", unfold);
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(unfold));
  unfold();

  // Charts: the point nearest to the pointer, or the one in focus, tells its values; each chart is one tab stop.
  function readChart(chart) {
    const readout = chart.parentElement.querySelector(".readout");
    const curves = [...chart.querySelectorAll(".curve")];
    const points = [...chart.querySelectorAll(".point")];
    const seen = () => points.filter((point) => !point.parentElement.classList.contains("off"));
    const place = (point) => [point.x.baseVal.value, point.y.baseVal.value];
    let shown = null;

    for (const point of points) {
      point.setAttribute("aria-label", point.querySelector("title").textContent);
      point.querySelector("title").remove(); // the browser's own box would cover the chart a second time
      point.setAttribute("tabindex", "-1");
    }
    if (points.length) points[0].setAttribute("tabindex", "0");

    function show(point) {
      if (shown === point) return;
      if (shown) {
        shown.classList.remove("on");
        shown.parentElement.classList.remove("lit");
      }
      shown = point;
      chart.classList.toggle("dim", point !== null && curves.length > 1);
      readout.textContent = point ? point.getAttribute("aria-label") : "\u00a0";
      readout.classList.remove("hint");
      if (!point) return;
      point.classList.add("on");
      point.parentElement.classList.add("lit");
    }

    function focus(point) {
      for (const other of points) other.setAttribute("tabindex", other === point ? "0" : "-1");
      point.focus();
    }

    function nearest(event) {
      const toChart = chart.getScreenCTM().inverse();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(toChart);
      let best = null;
      let least = 40; // units of the drawing
      for (const point of seen()) {
        const [x, y] = place(point);
        const distance = Math.hypot(x - at.x, y - at.y);
        if (distance < least) [best, least] = [point, distance];
      }
      return best;
    }

    // Along the curve, or to the point of another curve that lies next above or below.
    function neighbour(point, name) {
      const own = seen().filter((other) => other.parentElement === point.parentElement);
      const n = own.indexOf(point);
      if (name === "ArrowRight") return own[n + 1];
      if (name === "ArrowLeft") return own[n - 1];
      if (name === "Home") return own[0];
      if (name === "End") return own[own.length - 1];
      const [x, y] = place(point);
      const sign = name === "ArrowDown" ? 1 : -1;
      let best;
      for (const curve of curves) {
        if (curve === point.parentElement || curve.classList.contains("off")) continue;
        const others = [...curve.querySelectorAll(".point")].map((other) => [other, ...place(other)]);
        others.sort((a, b) => Math.abs(a[1] - x) - Math.abs(b[1] - x));
        const at = others[0];
        // Points in one place are told apart by the order of their curves, so that every curve is reached.
        const step = at && (at[2] - y || (curves.indexOf(curve) - curves.indexOf(point.parentElement)) * 1e-6) * sign;
        if (at && step > 0 && (!best || step < best[1])) best = [at[0], step];
      }
      return best && best[0];
    }

    chart.addEventListener("focusin", (event) => {
      if (points.includes(event.target)) show(event.target);
    });
    chart.addEventListener("focusout", (event) => {
      if (shown === event.target) show(null); // a press elsewhere in the chart has already shown another point
    });
    chart.addEventListener("keydown", (event) => {
      if (!points.includes(event.target)) return;
      if (event.key === "Escape") show(null);
      if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      const next = neighbour(event.target, event.key);
      if (next) focus(next);
    });
    const point = (event) => show(nearest(event) || (points.includes(document.activeElement) ? document.activeElement : null));
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") show(points.includes(document.activeElement) ? document.activeElement : null);
    });
    return { points, seen };
  }

  for (const group of document.querySelectorAll(".group")) {
    const charts = [...group.querySelectorAll(".chart")].map(readChart);
    const readout = group.querySelector(".readout");
    readout.textContent = "Point at, tap or tab to a point to read its values; arrow keys go on from there.";
    readout.classList.add("hint");
    const legend = group.querySelector(".legend");
    if (!legend) continue;
    legend.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const curve of group.querySelectorAll(`.curve[data-k="${button.dataset.k}"]`)) curve.classList.toggle("off", !on);
      // The tab stop of a chart must not be on a hidden curve.
      for (const { points, seen } of charts) {
        const stop = points.find((point) => point.getAttribute("tabindex") === "0");
        const left = seen();
        if (left.includes(stop)) continue;
        for (const point of points) point.setAttribute("tabindex", point === left[0] ? "0" : "-1");
      }
    });
  }
})();

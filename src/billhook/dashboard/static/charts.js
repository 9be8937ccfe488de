// The charts of the overview, drawn by uPlot from the data of the SVG that they replace.
"use strict";

const HEIGHT = 220; // pixels
const LABEL = 64; // pixels that a day needs on the axis

// Colors as the page shows them: in a canvas, the page's variables are unknown.
function color(part, name, property) {
  const sample = document.createElement("span");
  sample.className = name;
  part.append(sample);
  const found = getComputedStyle(sample)[property];
  sample.remove();
  return found;
}

function series(part, { name, kind, amounts }) {
  if (kind === "bars") {
    return {
      fill: color(part, `key ${name}`, "backgroundColor"),
      paths: uPlot.paths.bars({ size: [0.76, 60], radius: 0.12 }),
      points: { show: false },
    };
  }
  const past = name === "before";
  return {
    stroke: color(part, `key ${name}`, past ? "borderTopColor" : "backgroundColor"),
    width: 2,
    dash: past ? [5, 4] : undefined,
    points: { show: amounts.length === 1 },
  };
}

// What is under the pointer, in the server's words.
function tip(titles) {
  const box = document.createElement("div");
  box.className = "tip";
  box.hidden = true;
  return {
    hooks: {
      init: (plot) => plot.over.append(box),
      setCursor: (plot) => {
        const { idx, left } = plot.cursor;
        box.hidden = idx === null || idx === undefined || left < 0;
        if (box.hidden) return;
        box.textContent = titles[idx];
        const width = plot.over.clientWidth;
        const at = plot.valToPos(idx, "x");
        const beside = at + 12 + box.offsetWidth > width ? at - 12 - box.offsetWidth : at + 12;
        box.style.transform = `translate(${Math.max(0, beside)}px, 8px)`;
      },
    },
  };
}

function drawn(part) {
  const { labels, titles, rows, series: given } = JSON.parse(part.dataset.chart);
  const last = labels.length - 1;
  const axis = {
    stroke: color(part, "muted", "color"),
    font: `11px ${getComputedStyle(part).fontFamily}`,
    ticks: { show: false },
  };
  const grid = { stroke: color(part, "line", "borderTopColor"), width: 1 };
  const every = (plot) => Math.ceil(labels.length / Math.max(1, Math.floor(plot.over.clientWidth / LABEL)));
  const options = {
    width: part.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: false, range: [-0.5, last + 0.5] },
      y: { range: [0, rows.at(-1)[0]] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        splits: (plot) => labels.map((_, number) => number).filter((number) => number % every(plot) === 0),
        values: (_, found) => found.map((number) => labels[number]),
      },
      {
        ...axis,
        grid,
        size: 52,
        splits: () => rows.map(([amount]) => amount),
        values: () => rows.map(([, text]) => text),
      },
    ],
    series: [{}, ...given.map((each) => series(part, each))],
    plugins: [tip(titles)],
  };
  part.replaceChildren();
  return new uPlot(options, [labels.map((_, number) => number), ...given.map((each) => each.amounts)], part);
}

for (const part of document.querySelectorAll("[data-chart]")) {
  let plot = drawn(part);
  new ResizeObserver(() => plot.setSize({ width: part.clientWidth, height: HEIGHT })).observe(part);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = drawn(part);
  });
}

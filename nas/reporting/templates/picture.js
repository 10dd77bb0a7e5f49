"use strict";
(() => {
  const holder = document.getElementById("picture-data");
  if (!holder) return;
  const runs = JSON.parse(holder.textContent);
  const svg = document.getElementById("picture"), details = document.getElementById("details");
  const narrow = window.innerWidth < 600, WIDTH = narrow ? 380 : 620, HEIGHT = narrow ? 330 : 440, LEFT = 78, RIGHT = 16, TOP = 14, BOTTOM = 52;
  const points = runs.flatMap((run, number) => run.points.map((point) => ({ ...point, run, number })));
  const axes = runs[0].axes.filter((axis) => runs.every((run) => run.axes.some((a) => a.name === axis.name)));
  const chosen = { x: axes[Math.min(1, axes.length - 1)], y: axes[0] };
  const has = (point, axis) => point.metrics[axis.name] !== undefined;
  // Of some axes, such as end-to-end latency, delivered models alone have values.
  let shown = points, order = [], picked = points.find((p) => p.name === runs[0].selected && !p.number) || points[0];

  const make = (name, attributes = {}, ...children) => {
    const inSvg = ["svg", "g", "circle", "line", "rect", "text", "polyline"].includes(name);
    const element = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const short = (value) => Math.abs(value) >= 1e5 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
  const called = (point) => runs.length > 1 ? `${point.run.title}: ${point.name}` : point.name;

  // Scales and ticks.
  const roundStep = (least) => {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map((f) => f * power).find((step) => step >= least * 0.999);
  };
  const scale = (axis, first, last) => {
    const values = shown.map((point) => point.metrics[axis.name]);
    const least = Math.min(...values), most = Math.max(...values);
    const pad = 0.05 * (most - least) || Math.abs(most) * 0.1 || 1;
    const low = least - pad, high = most + pad, step = roundStep((high - low) / (narrow ? 3 : 5)), ticks = [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step);
    return { at: (value) => first + ((value - low) / (high - low)) * (last - first), ticks };
  };
  const tickLabel = (value) => Math.abs(value) >= 1e4 ? (value / 1e3).toLocaleString("en") + "k" : String(+value.toPrecision(6));

  // What nothing beats in both axes, as a line of steps from the best in x to the best in y.
  const front = () => {
    const cost = (point, axis) => point.metrics[axis.name] * (axis.larger ? -1 : 1);
    const ranked = [...shown].sort((a, b) => cost(a, chosen.x) - cost(b, chosen.x) || cost(a, chosen.y) - cost(b, chosen.y));
    let best = Infinity;
    return ranked.filter((point) => cost(point, chosen.y) < best && ((best = cost(point, chosen.y)), true));
  };

  const draw = () => {
    shown = points.filter((point) => has(point, chosen.x) && has(point, chosen.y));
    const x = scale(chosen.x, LEFT, WIDTH - RIGHT), y = scale(chosen.y, HEIGHT - BOTTOM, TOP);
    const at = (point) => [x.at(point.metrics[chosen.x.name]), y.at(point.metrics[chosen.y.name])];
    const frame = make("g", { "aria-hidden": "true" });
    for (const tick of x.ticks) {
      frame.append(make("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: TOP, y2: HEIGHT - BOTTOM }),
        make("text", { class: "tick", x: x.at(tick), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, tickLabel(tick)));
    }
    for (const tick of y.ticks) {
      frame.append(make("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y.at(tick), y2: y.at(tick) }),
        make("text", { class: "tick", x: LEFT - 6, y: y.at(tick) + 4, "text-anchor": "end" }, tickLabel(tick)));
    }
    frame.append(make("rect", { class: "frame", x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM }),
      make("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 12, "text-anchor": "middle" }, chosen.x.title),
      make("text", { transform: `translate(15 ${HEIGHT / 2 - 15}) rotate(-90)`, "text-anchor": "middle" }, chosen.y.title));
    const steps = front().map(at).flatMap(([left, top], i, all) => i ? [[left, all[i - 1][1]], [left, top]] : [[left, top]]);
    frame.append(make("polyline", { class: "step", points: steps.map((p) => p.join(",")).join(" ") }));
    const list = make("g", { role: "listbox", tabindex: "0", id: "points",
      "aria-label": `Measured models, ${chosen.y.title} over ${chosen.x.title}` });
    order = [...shown].sort((a, b) => a.metrics[chosen.x.name] - b.metrics[chosen.x.name]);
    for (const point of points) point.mark = undefined;
    for (const point of shown) {
      const [left, top] = at(point), model = point.role !== "searched";
      point.place = [left, top];
      point.mark = make("circle", { cx: left, cy: top, r: model ? 7 : 4, role: "option", id: `point-${points.indexOf(point)}`,
        class: `${point.role} run-${point.number}`, "aria-selected": "false",
        "aria-label": `${called(point)}, ${point.role}, ${axes.filter((a) => has(point, a)).map((a) => `${a.title} ${short(point.metrics[a.name])}`).join(", ")}` });
      list.append(point.mark);
    }
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.replaceChildren(frame, list);
    list.addEventListener("keydown", onKey);
    if (!shown.includes(picked)) picked = shown.find((p) => p.name === p.run.selected) || shown[0];
    pick(picked);
  };

  const pick = (point) => {
    if (picked.mark) { picked.mark.classList.remove("picked"); picked.mark.setAttribute("aria-selected", "false"); }
    const changed = picked !== point || !details.childElementCount;
    picked = point;
    point.mark.classList.add("picked");
    point.mark.setAttribute("aria-selected", "true");
    point.mark.parentNode.setAttribute("aria-activedescendant", point.mark.id);
    if (changed) show(point);
  };
  const onKey = (event) => {
    const now = order.indexOf(picked), last = order.length - 1;
    const next = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    pick(order[Math.max(0, Math.min(last, next))]);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), factor = WIDTH / box.width;
    const left = (event.clientX - box.left) * factor, top = (event.clientY - box.top) * factor;
    const far = (point) => (point.place[0] - left) ** 2 + (point.place[1] - top) ** 2 - (point.role === "searched" ? 0 : 9);
    return shown.reduce((best, point) => far(point) < far(best) ? point : best);
  };
  svg.addEventListener("pointerdown", (event) => pick(nearest(event)));
  svg.addEventListener("pointermove", (event) => { if (event.buttons) pick(nearest(event)); });

  // The details of one point.
  const formatNumber = (name) => runs[0].formats.findIndex((format) => format.name === name);
  const colour = (name) => name ? `c${formatNumber(name) % 8}` : "rest";
  const bits = (name) => runs[0].formats[formatNumber(name)].bits;

  const drawBlock = (name, genes) => {
    const dropped = genes.every(({ gene, value }) => value === null && gene.kind !== "choice");
    const said = [], box = make("div", { class: dropped ? "block dropped" : "block", role: "img" });
    box.append(make("div", { class: "name" }, dropped ? `${name} (dropped)` : name));
    const chips = make("div", { class: "chips" });
    for (const { gene, value } of genes) {
      if (gene.kind === "precision") {
        const text = value === null ? "·" : String(bits(value));
        chips.append(make("span", { class: value === null ? "chip none" : `chip ${colour(value)}`, title: `${gene.label}: ${value || "dropped"}` }, text));
        if (value !== null) said.push(`${gene.label} ${value}`);
      } else {
        const whole = typeof gene.full === "number", share = value === null ? 0 : whole ? value / gene.full : 1;
        const called = gene.label.split(".").pop();
        const text = value === null ? called : whole ? `${called} ${value} of ${gene.full}` : `${called} ${value}`;
        box.append(make("div", { class: "bar", title: gene.label }, make("i", { style: `width:${100 * share}%` }), make("span", {}, text)));
        if (value !== null) said.push(text);
      }
    }
    if (chips.childElementCount) box.append(chips);
    box.setAttribute("aria-label", dropped ? `${name}: dropped` : `${name}: ${said.join(", ")}`);
    return box;
  };
  const drawNetwork = (title, run, values) => {
    const blocks = new Map();
    run.genes.forEach((gene, i) => {
      if (!blocks.has(gene.block)) blocks.set(gene.block, []);
      blocks.get(gene.block).push({ gene, value: values[i] });
    });
    const figure = make("figure", { class: "network" }, make("figcaption", {}, title));
    for (const [name, genes] of blocks) figure.append(drawBlock(name, genes));
    return figure;
  };
  // One strip: a part per layer, as wide as its share, in the order in which the network runs.
  const strip = (title, layers, of, unit) => {
    const total = layers.reduce((sum, layer) => sum + layer[of], 0) || 1, share = (layer) => (100 * layer[of]) / total;
    const sums = new Map();
    for (const layer of layers) sums.set(layer.format, (sums.get(layer.format) || 0) + layer[of]);
    const said = [...sums].map(([format, sum]) => `${format || "everything else"} ${short(sum)} ${unit}`).join(", ");
    const bar = make("div", { class: "stack", role: "img", "aria-label": `${title}: ${said}` });
    for (const layer of layers) bar.append(make("span", { class: colour(layer.format), style: `width:${share(layer)}%`,
      title: `${layer.name || "everything else"}: ${layer.format ? `${layer.format}, ` : ""}${short(layer[of])} ${unit}, ${short(share(layer))} %` },
      layer.format && share(layer) > (narrow ? 8 : 3.5) ? String(bits(layer.format)) : ""));
    return [make("div", { class: "soft" }, title), bar];
  };
  const policy = (point) => {
    const genes = point.run.genes.map((gene, i) => ({ name: `${gene.block}.${gene.label}`, kind: gene.kind, format: point.values[i] }));
    const layers = point.layers.length ? point.layers : genes.filter((gene) => gene.kind === "precision" && gene.format !== null);
    const known = (of) => point.layers.length > 0 && layers.every((layer) => layer[of] !== null && layer[of] !== undefined);
    const found = [make("h3", {}, "Bits of every layer, in the order of execution"),
      ...strip("every layer", layers.filter((layer) => layer.format).map((layer) => ({ ...layer, one: 1 })), "one", "layers")];
    if (known("bytes")) found.push(...strip("by share of the file's bytes", layers, "bytes", "bytes"));
    if (known("macs")) found.push(...strip("by share of the multiply-accumulates", layers, "macs", "MACs"));
    if (known("ms")) found.push(...strip("by share of the time of one profiled inference", layers, "ms", "ms"));
    const columns = [["layers", "layers"], ["bytes", "bytes"], ["macs", "MACs"], ["ms", "ms"]].filter(([of]) => of === "layers" || known(of));
    const head = make("tr", {}, ...["format", ...columns.map(([, title]) => title)].map((text) => make("th", { scope: "col" }, text)));
    const body = point.formats.map((row) => make("tr", {}, make("td", {}, make("span", { class: `chip ${colour(row.format)}` }, row.format || "everything else")),
      ...columns.map(([of]) => make("td", {}, of === "layers" && !row.format ? "-" : short(row[of])))));
    found.push(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Layers by format" },
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
    if (!point.layers.length) found.push(make("p", { class: "soft" }, "Not exported: bytes, MACs and times of layers are known of exported models alone."));
    return found;
  };
  const show = (point) => {
    const full = point.run.points.find((other) => other.name === point.run.full);
    const list = make("dl", { class: "metrics" });
    for (const axis of point.run.axes.filter((a) => has(point, a))) list.append(make("div", {}, make("dt", {}, axis.title), make("dd", {}, short(point.metrics[axis.name]))));
    const parts = [make("h3", { id: "shown" }, `${called(point)} (${point.role})`), list];
    if (point.card) {
      parts.push(make("details", {}, make("summary", {}, "model card"), make("pre", { tabindex: "0" }, point.card)));
    }
    parts.push(make("div", { class: "networks" }, drawNetwork(point.name, point.run, point.values),
      drawNetwork(`full network (${full.name})`, point.run, full.values)), ...policy(point));
    details.replaceChildren(...parts);
  };

  for (const [id, key] of [["x-axis", "x"], ["y-axis", "y"]]) {
    const select = document.getElementById(id);
    for (const axis of axes) select.append(make("option", { value: axis.name }, axis.title));
    select.value = chosen[key].name;
    select.addEventListener("change", () => { chosen[key] = axes.find((axis) => axis.name === select.value); draw(); });
  }
  const legend = document.getElementById("legend");
  const kinds = runs.length > 1 ? runs.map((run, n) => [`dot run-${n}`, run.title]) : [["dot", "front"]];
  for (const [name, text] of [...kinds, ["dot reference", "reference"], ["dot searched", "searched"]]) legend.append(make("span", { class: name }), `${text}  `);
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      const point = points.find((p) => p.name === button.dataset.show && String(p.number) === (button.dataset.run || "0"));
      if (!point) return;
      pick(point);
      document.getElementById("picture").scrollIntoView({ block: "start" });
    });
  }
  draw();
})();

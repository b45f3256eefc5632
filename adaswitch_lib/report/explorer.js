// Draws what explorer.py asks for, from the data in the page. explorer.py puts this file into a function of its own: no name gets
// out, so that several explorers, or a cell that is run again, do not disturb each other.

// The rule. It stands in switching.py; this copy is tested against it.

function movingAverage(d, window) {
  return d.map((_, i) => {
    const last = d.slice(Math.max(0, i - window + 1), i + 1);
    return last.reduce((sum, x) => sum + x, 0) / last.length;
  });
}

function switchThreshold(d, rule) {
  const average = movingAverage(d, rule.window);
  return d.map((_, i) => {
    if (i < rule.min_history) return Infinity;
    return Math.max(rule.multiplier * (i > 0 ? average[i - 1] : 0), rule.floor);
  });
}

function firstSwitch(d, threshold) {
  return d.findIndex((x, i) => x > threshold[i]);
}

// The values of each slider: they end where a further step would let nobody else write.

function multipliers(d, rule) {
  const found = ratios(d, rule.window).slice(rule.min_history).filter((ratio) => ratio > 0 && ratio < Infinity);
  const least = Math.min(Math.max(found[0] ?? 1, 0.1), 1); // below it the first token that may switches
  const most = Math.min(Math.max(2, ...found), 1000); // from it on none does
  const values = [];
  for (let k = least / 1.05; !(values.at(-1) >= most); k *= 1.05) values.push(Number(k.toPrecision(2)));
  return sorted([...values, rule.multiplier]);
}

function windows(d, rule, multiples) {
  const compared = d.map((_, i) => String(ratios(d, i + 1).map((ratio) => multiples.findIndex((k) => ratio <= k))));
  const last = compared.findLastIndex((now, i) => i > 0 && now !== compared[i - 1]);
  return sorted([...range(1, Math.max(last + 1, 2)), rule.window]);
}

function histories(d, rule, multiples) {
  const last = ratios(d, rule.window).findLastIndex((ratio) => ratio > multiples[0]);
  return sorted([...range(0, Math.max(last + 1, 1)), rule.min_history]);
}

function floors(d, rule) {
  const most = Math.max(...d) || 1;
  const power = 10 ** Math.floor(Math.log10(most / 20));
  const step = power * [1, 2, 5].find((size) => size * power * 40 >= most);
  return sorted([...range(0, Math.ceil(most / step)).map((i) => Number((i * step).toPrecision(6))), rule.floor]);
}

// How many times its recent mean each d is; 0 where the rule cannot trip.
function ratios(d, window) {
  const average = movingAverage(d, window);
  return d.map((x, i) => (i > 0 && x > 0 ? x / average[i - 1] : 0));
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const sorted = (values) => [...new Set(values)].sort((a, b) => a - b);

// Pieces of a page.

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const spoken = () => element("div", { class: "say", role: "status", "aria-live": "polite" });
const writing = () => element("div", { class: "text", role: "img" });
const remark = (text) => element("div", { class: "remark" }, text);
const visible = (token) => token.replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
const quoted = (token) => `“${visible(token).trim()}”`;
const numbered = (i) => (i % 5 ? "" : i);
const nats = (x) => `${x >= 0.1 || x === 0 ? x.toFixed(2) : Number(x.toPrecision(2))} nats`;
const ones = (flags) => flags.split("1").length - 1;
const share = (part, all) => `${part} of ${all} tokens (${Math.round((100 * part) / all)} %)`;

function legend(...rest) {
  const keys = ["student", "teacher"].map((who) => [element("i", { class: `key ${who}` }), ` the ${who} writes`]);
  return element("div", { class: "remark legend" }, ...[...keys, ...rest].map((parts) => element("span", {}, ...[parts].flat())));
}

// What a screen reader says of a text: who writes each stretch of it. Tokens that bring no spaces are words.
function spokenText(tokens, writer) {
  const space = tokens.some((token) => token.startsWith(" ")) ? "" : " ";
  return tokens.map((token, i) => (i && writer(i) === writer(i - 1) ? "" : ` The ${writer(i)} writes: `) + token).join(space);
}

// One token: its number, its text, and d as a bar that is full at `top`.
function tokenCell(token, i, d, top) {
  const index = element("span", { class: "index" }, numbered(i));
  const plot = element("span", { class: "plot" }, element("i", { class: "bar", style: `height: ${(100 * d) / top}%` }));
  const word = element("span", { class: "word" }, visible(token));
  return { index, plot, cell: element("span", { class: "token" }, index, word, plot) };
}

function slider(label, values, value, describe, changed) {
  const shown = element("b", {});
  const input = element("input", { type: "range", min: 0, max: values.length - 1, "aria-label": label });
  const control = { node: element("label", {}, `${label}: `, shown, input), set };
  function set(next) {
    control.value = next;
    input.value = values.indexOf(next);
    shown.textContent = describe(next);
    input.setAttribute("aria-valuetext", shown.textContent);
  }
  input.addEventListener("input", () => changed(set(values[input.value])));
  set(value);
  return control;
}

function picker(label, values, at, changed) {
  const select = element("select", { "aria-label": label }, ...values.map((value, i) => element("option", { value: i }, value)));
  select.value = at;
  select.addEventListener("change", changed);
  return { node: element("label", {}, `${label} `, select), value: () => values[select.value] };
}

// "Who writes the sequence?"

function explore(root, { tokens, d, rule }) {
  const n = d.length;
  const top = 1.05 * Math.max(...d) || 1;
  let threshold = switchThreshold(d, rule);
  let place = firstSwitch(d, threshold); // -1: never
  const writer = (i) => (place >= 0 && i >= place ? "teacher" : "student");
  const cells = tokens.map((token, i) => {
    const rise = element("i", { class: "rise" });
    const tau = element("i", { class: "tau" });
    const made = tokenCell(token, i, d[i], top);
    made.plot.append(rise, tau);
    return { ...made, rise, tau };
  });
  const multiples = multipliers(d, rule);
  const controls = {
    multiplier: slider("K", multiples, rule.multiplier, (k) => `${k} × the mean`, draw),
    window: slider("L", windows(d, rule, multiples), rule.window, (size) => `mean of the last ${size}`, draw),
    min_history: slider("min_history", histories(d, rule, multiples), rule.min_history, (size) => `not before ${size}`, draw),
    floor: slider("floor", floors(d, rule), rule.floor, (least) => `at least ${nats(least)}`, draw),
  };
  const reset = element("button", { type: "button" }, "Reset");
  const say = spoken();
  const text = writing();
  text.append(...cells.map(({ cell }) => cell));
  const look = slider("Look at token", range(0, n - 1), Math.max(0, place), describe, mark);

  function describe(i) {
    const order = d[i] > threshold[i] ? "above" : "not above";
    const compared = threshold[i] < Infinity ? `${order} τ = ${nats(threshold[i])}` : "no threshold yet";
    return `${i}, ${quoted(tokens[i])}: d = ${nats(d[i])}, ${compared}; the ${writer(i)} writes`;
  }
  function mark() {
    cells.forEach(({ cell }, i) => cell.classList.toggle("looked", i === look.value));
  }
  function draw() {
    const now = Object.fromEntries(Object.entries(controls).map(([name, { value }]) => [name, value]));
    threshold = switchThreshold(d, now);
    place = firstSwitch(d, threshold);
    const height = threshold.map((t) => Math.min(96, (100 * t) / top));
    cells.forEach(({ cell, index, tau, rise }, i) => {
      const kinds = { switch: i === place, early: threshold[i] === Infinity, above: threshold[i] > top };
      cell.className = ["token", writer(i), ...Object.keys(kinds).filter((kind) => kinds[kind])].join(" ");
      index.textContent = i === place ? `▼ ${i}` : place >= 0 && Math.abs(i - place) < 3 ? "" : numbered(i);
      const before = height[threshold[i - 1] < Infinity ? i - 1 : i];
      tau.style.transform = `translateY(${-height[i]}%)`; // a transform needs no new layout
      rise.style.transform = `translateY(${-Math.min(before, height[i])}%) scaleY(${Math.abs(before - height[i]) / 100})`;
    });
    const why = place < 0 || `d = ${nats(d[place])} exceeds τ = ${nats(threshold[place])}`;
    say.textContent =
      place < 0
        ? `The teacher never takes over: the student writes all ${n} tokens.`
        : `The teacher takes over at token ${place}, where the student wrote ${quoted(tokens[place])}: ${why}. Left to the teacher: ${share(n - place, n)}.`;
    text.setAttribute("aria-label", spokenText(tokens, writer));
    look.set(look.value);
    mark();
  }

  text.addEventListener("pointerover", ({ target }) => {
    const i = cells.findIndex(({ cell }) => cell.contains(target));
    if (i >= 0) look.set(i);
    mark();
  });
  reset.addEventListener("click", () => {
    for (const [name, { set }] of Object.entries(controls)) set(rule[name]);
    draw();
  });
  const note = "Tokens count from 0. All words are the student's own: behind the switch the teacher would write others.";
  const keys = legend(`bars: d, up to ${nats(Math.max(...d))}`, "line: τ (dashed: off the scale)", "▼ the switch", "hatched: too early to switch");
  root.append(element("div", { class: "beside" }, ...Object.values(controls).map(({ node }) => node)));
  root.append(reset, say, text, remark(note), keys, look.node);
  draw();
}

// Two texts side by side, each picked by the columns in `by`, for the same example.

function compare(root, { by, texts, vocabulary, prompts, note }) {
  const distinct = (values) => [...new Set(values)];
  const example = picker("example", distinct(texts.map((text) => text.example)), 0, draw);
  const prompt = element("div", { class: "prompt" });
  const sides = ["left", "right"].map((side) => {
    const pickers = by.map((name, i) => {
      const values = distinct(texts.map(({ key }) => key[i]));
      return picker(`${side}: ${name}`, values, side === "right" && i === by.length - 1 ? values.length - 1 : 0, draw);
    });
    return { pickers, say: spoken(), text: writing() };
  });
  const parting = spoken();

  function draw() {
    const kept = sides.map(({ pickers }) => texts.filter(({ key }) => key.every((value, i) => value === pickers[i].value())));
    const shown = kept.map((all) => all.find((text) => text.example === example.value()) ?? { ids: [], d: [], teacher: "" });
    const top = (1.05 / 100) * Math.max(0, ...shown.flatMap(({ d }) => d)) || 1;
    sides.forEach(({ say, text }, side) => {
      const { ids, d, teacher } = shown[side];
      const tokens = ids.map((id) => vocabulary[id]);
      const writer = (i) => (teacher[i] === "1" ? "teacher" : "student");
      const cells = tokens.map((token, i) => tokenCell(token, i, d[i] / 100, top).cell);
      cells.forEach((cell, i) => cell.classList.add(writer(i)));
      text.replaceChildren(...cells);
      text.setAttribute("aria-label", spokenText(tokens, writer));
      const all = kept[side].map((text) => text.teacher).join("");
      const both = `${share(ones(teacher), ids.length)}; over the ${kept[side].length} examples ${share(ones(all), all.length)}`;
      say.textContent = ids.length ? `The teacher writes ${both}.` : "This text is not kept.";
    });
    const [a, b] = shown.map(({ ids }) => ids);
    const part = range(0, Math.max(a.length, b.length)).find((i) => a[i] !== b[i]);
    parting.textContent = part >= 0 ? `The texts differ from token ${part} on.` : "Both texts are the same.";
    prompt.textContent = prompts[example.value()] ?? "";
    prompt.hidden = !prompt.textContent;
  }

  const columns = sides.map(({ pickers, say, text }) => element("div", {}, ...pickers.map(({ node }) => node), say, text));
  root.append(example.node, prompt, element("div", { class: "beside" }, ...columns), parting);
  root.append(legend("bars: d, both on one scale"), remark(note));
  draw();
}

for (const root of document.querySelectorAll(".adaswitch")) {
  if (root.drawn) continue; // by another explorer's script
  root.drawn = true;
  const { view, ...data } = JSON.parse(root.dataset.shown);
  root.replaceChildren(...root.querySelectorAll("style, .prompt"));
  root.addEventListener("keydown", (event) => event.stopPropagation()); // arrows are ours, not JupyterLab's
  ({ explore, compare })[view](root, data);
}

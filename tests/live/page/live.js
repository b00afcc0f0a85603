// The live page: gets frames from the proxy's inspector, keeps the last thousand, and draws one of them.
"use strict";

const MOST_ROUNDS = 1000; // that can be gone back to
const MOST_LOG = 300; // lines
const DRAW_MILLISECONDS = 60; // between two drawings; a round may take much less
const EVENTS = ["EPOLLIN", "EPOLLOUT", "EPOLLRDHUP", "EPOLLERR", "EPOLLHUP"];
const PLAY_SPEED = 1; // of a recording

const byId = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=token]").content;
const isRecording = Boolean(byId("recording"));
let recording = null; // {scene, messages}

let stages = []; // what is known of each: hello, history, peers, warnings
let messages = []; // all since the last start; the judges look at them
let scenes = [];
let scene = null; // the one that is being played
let chosen = null; // the user's answer
let judged = false;
let pace = "live";
let position = null; // of the slider; null: now
let drawn = false; // a drawing is due
let logged = []; // lines that are not drawn yet

// --- small things --------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (count < 1e4) return `${count} B`;
  if (count < 1e6) return `${Math.round(count / 1e3)} KB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 2 : 1)} MB`;
}

async function order(what) {
  byId("error").textContent = "";
  if (recording) return;
  const options = { method: "POST", headers: { "X-Token": token, "Content-Type": "application/json" }, body: JSON.stringify(what) };
  try {
    const answer = await fetch("/do", options);
    if (!answer.ok) byId("error").textContent = (await answer.json()).error || "That could not be done.";
  } catch {
    byId("error").textContent = "The page has lost its server: is make live still running?";
  }
}

// --- what comes in -------------------------------------------------------------------------------------

function restart() {
  stages = [];
  messages = [];
  logged = [];
  position = null;
  scene = null;
  byId("card").hidden = true;
  byId("log").replaceChildren();
  byId("stages").replaceChildren();
}

function take(message) {
  if (message.kind === "restart") return restart();
  messages.push(message);
  if (!scene && messages.length > 2 * MOST_ROUNDS) messages = messages.filter((one) => one.kind === "hello").concat(messages.slice(-MOST_ROUNDS));
  const stage = stages[message.stage];
  if (message.kind === "hello") {
    stages[message.stage] = { hello: message, history: [], peers: { clients: [], backends: [] }, gaps: {}, rounds: 0, taken: null, place: null };
    buildStage(message.stage);
  } else if (message.kind === "peers") {
    stage.peers = message;
    remember(stage, stage.history.at(-1)?.frame || { lanes: [], events: [], calls: [], rules: [], turn: 0, at: message.at });
    noteBackends(message);
  } else if (message.kind === "round" || message.kind === "sample") {
    if (message.kind === "round") {
      stage.rounds = message.turn;
      if (message.rules.length) stage.taken = { ...message.rules.at(-1), turn: message.turn };
      const call = message.calls.filter((one) => one.file && one.who !== "check").at(-1);
      if (call) stage.place = call;
    }
    if (message.waiting) stage.place = message.waiting;
    remember(stage, message);
    tell(message);
  } else if (message.kind === "action") {
    log(`You: ${inWords(message.order)}`);
    if (message.order.do === "pace") showPace(message.order.pace);
  } else if (message.kind === "log") {
    log(`${stageName(message.stage)}proxy's log: ${message.text}`);
  } else if (message.kind === "scene") {
    takeScene(message);
  }
  due();
}

function remember(stage, frame) {
  for (const lane of frame.lanes) { // a recording leaves out what has not changed
    const key = `${lane.who} ${lane.number}`;
    lane.gaps ??= stage.gaps[key] || [];
    stage.gaps[key] = lane.gaps;
  }
  const last = stage.history.at(-1);
  const entry = { frame, peers: stage.peers, taken: stage.taken, place: stage.place };
  if (last && last.frame.turn === frame.turn) { // the same round, a moment later: what it did stays
    const { events, calls, rules, took } = last.frame;
    entry.frame = { ...frame, events: frame.events || events, calls: frame.calls || calls, rules: frame.rules || rules, took: frame.took ?? took };
    stage.history[stage.history.length - 1] = entry;
    return;
  }
  stage.history.push(entry);
  if (stage.history.length > MOST_ROUNDS) {
    stage.history.shift();
    if (position !== null && stage === stages[0]) position = Math.max(0, position - 1);
  }
}

function stageName(number) {
  return stages.length > 1 && number !== undefined ? `${stages[number].hello.title}: ` : "";
}

function inWords(order) {
  const names = { silent: "a client that says nothing", small: "a client that asks for a small page", download: "a client that downloads",
    late: "a client whose answer takes a while", upload: "a client that uploads" };
  const name = "ABCDEFGH"[order.backend || 0];
  switch (order.do) {
    case "client": return `${names[order.kind]}${order.count ? ` ${bytes(order.count)}` : ""}${order.rate === 0 ? ", and reads nothing" : order.rate ? `, at ${bytes(order.rate)} a second` : ""}.`;
    case "rate": return `client ${order.number} ${order.rate === 0 ? "stops reading" : order.rate === null ? "reads as fast as it can" : `reads ${bytes(order.rate)} a second`}.`;
    case "half-close": return `client ${order.number} has finished sending (half-close).`;
    case "close": return `client ${order.number} leaves.`;
    case "reset": return `client ${order.number} resets its connection.`;
    case "pace": return { live: "the loop turns freely.", slow: "the loop turns slowly.", pause: order.steps ? "one round." : "the loop is held." }[order.pace];
    case "fill": return `backend ${name} accepts nobody any more.`;
    case "drain": return `backend ${name} accepts again.`;
    default: return `backend ${name}: ${order.do}.`;
  }
}

function tell(message) {
  const name = stageName(message.stage);
  for (const warning of message.warnings || []) log(`${name}warning: ${warning}`, true);
  if (message.kind !== "round") return;
  for (const choice of message.choices || []) log(withNames(`${name}client ${choice.number} goes to ${choice.backend}: ${choice.why}.`, stages[message.stage]));
  const events = message.events.filter((one) => one.who && one.who !== "check").map((one) => `${who(one)} ${one.events.filter((event) => event !== "EPOLLET").join("+")}`);
  const calls = gathered(message.calls.filter((call) => call.who && call.who !== "check" && !["register", "modify"].includes(call.call)));
  if (events.length || calls.length) log(`${name}round ${message.turn}: ${events.join(", ") || "a timer"} → ${calls.join(", ") || "no call"}.`);
  for (const rule of message.rules) log(`${name}rule for ${who(rule)}: ${rule.step}.`);
}

function who(one) {
  if (!one.number) return one.who;
  return one.who === "backend" ? `the backend's side of client ${one.number}` : `${one.who} ${one.number}`;
}

function withNames(text, stage) {
  // 127.0.0.1:8001 is backend A to the reader.
  return stage.peers.backends.reduce((words, backend) => words.replaceAll(`127.0.0.1:${backend.port}`, `backend ${backend.name}`), text);
}

function gathered(calls) {
  // Eight reads in a row are one phrase.
  const phrases = new Map();
  for (const call of calls) {
    const key = `${call.call} ${who(call)}${call.error ? ` (${call.error})` : ""}`;
    const known = phrases.get(key) || { times: 0, taken: 0, asked: 0 };
    phrases.set(key, { times: known.times + 1, taken: known.taken + (call.taken || 0), asked: known.asked + (call.asked || 0) });
  }
  return [...phrases].map(([key, { times, taken, asked }]) => {
    const amount = /^send/.test(key) ? ` ${bytes(taken)} of ${bytes(asked)}` : /^recv/.test(key) ? ` ${bytes(taken)}` : "";
    return `${times > 1 ? `${times} × ` : ""}${key}${amount}`;
  });
}

function log(text, isWarning = false) {
  logged.push([text, isWarning]);
  if (logged.length > MOST_LOG) logged.shift();
}

function drawLog() {
  if (!logged.length) return;
  const list = byId("log");
  const box = byId("log-box");
  const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 30;
  list.append(...logged.map(([text, isWarning]) => make("li", isWarning ? { class: "lost-text" } : {}, text)));
  logged = [];
  while (list.children.length > MOST_LOG) list.firstChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

const MEANINGS = {
  "client's kernel": "bytes in the kernel at the client's end",
  "proxy's kernel, to send": "bytes that the proxy has sent, and that have not been acknowledged yet",
  "proxy's write buffer": "bytes that the proxy has read, and that its socket did not take",
  "proxy's kernel, unread": "bytes that have arrived, and that the proxy has not read yet",
  "backend's kernel": "bytes in the kernel at the backend's end",
};

// --- the picture ---------------------------------------------------------------------------------------

function due() {
  if (drawn || held) return;
  drawn = true;
  setTimeout(() => requestAnimationFrame(() => { drawn = false; if (!held) draw(); }), DRAW_MILLISECONDS);
}

// A button that is drawn again between press and release would miss its click: wait until it is released.
let held = false;
addEventListener("pointerdown", (event) => { held = Boolean(event.target.closest(".lane-head")); }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => { held = false; due(); }), true);

function buildStage(number) {
  const { hello } = stages[number];
  const rules = make("table", {}, make("caption", { class: "small" }, "What follows from the states: the rules of the pair"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "this side"), make("th", { scope: "col" }, "step"))),
    make("tbody", {}, ...hello.rules.map((rule) => make("tr", {}, make("td", {}, rule.when), make("td", {}, rule.step.replace("->", "→"))))));
  const stage = make("section", { class: "stage", "aria-labelledby": `stage-${number}` },
    make("h2", { id: `stage-${number}` }, `The proxy of ${hello.title}`),
    make("p", { class: "facts" }), make("div", { role: "status" }, make("ul", { class: "warnings" })), make("div", { class: "choice" }),
    make("div", { class: "lanes" }),
    make("div", { class: "two" }, hello.rules.length ? make("div", { class: "rules" }, rules) : null,
      make("div", {}, make("p", { class: "small place-name" }, "The line that runs"), make("pre", { class: "source", tabindex: "0", "aria-label": "Source" }))));
  byId("stages").append(stage);
  byId("reveal").hidden = !hello.has_bug;
}

function entryOf(stage, index) {
  if (position === null || stages.length === 0) return stage.history.at(-1);
  if (index === 0) return stage.history[position];
  const at = stages[0].history[position]?.frame.at ?? 0; // the other stage, at the same moment
  return stage.history.findLast((entry) => entry.frame.at <= at) || stage.history[0];
}

function draw() {
  drawLog();
  const slider = byId("slider");
  const length = stages[0]?.history.length || 1;
  slider.max = length - 1;
  if (position === null) slider.value = length - 1;
  stages.forEach((stage, index) => {
    const entry = entryOf(stage, index);
    if (entry) drawStage(byId("stages").children[index], stage, entry);
  });
  const entry = stages[0] && entryOf(stages[0], 0);
  byId("moment").textContent = position === null ? "now" : `round ${entry?.frame.turn ?? 0}, ${(entry?.frame.at ?? 0).toFixed(2)} s`;
}

function drawStage(element, stage, { frame, peers, taken, place }) {
  const facts = [["round", frame.turn], ["clients", peers.clients.filter((client) => client.open).length]];
  if (frame.took) facts.push(["this round took", `${(1000 * frame.took).toFixed(1)} ms`]);
  if (frame.held) facts.push(["the loop", "is held"]);
  if (frame.waiting) facts.push(["it waits in", frame.waiting.call]);
  element.querySelector(".facts").replaceChildren(...facts.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, String(value)))));
  if (frame.warnings?.length) {
    element.querySelector(".warnings").replaceChildren(...frame.warnings.map((warning) => make("li", {}, `Warning: ${warning}`)));
    stage.warnedAt = frame.at;
  } else if (frame.at - (stage.warnedAt || 0) > 6) {
    element.querySelector(".warnings").replaceChildren();
  }
  drawBackends(element.querySelector(".choice"), frame, peers);
  drawLanes(element.querySelector(".lanes"), stage, frame, peers);
  drawRules(element.querySelector(".rules"), stage, taken, frame.turn);
  drawSource(element, stage, place);
}

function drawBackends(element, frame, peers) {
  const known = frame.backends || [];
  if (!known.length) return element.replaceChildren();
  const rows = known.map((backend) => {
    const peer = peers.backends.find((one) => backend.name.endsWith(`:${one.port}`));
    const state = !backend.up ? "down" : backend.usable ? "up" : "left out";
    return make("tr", {}, make("td", {}, peer ? `backend ${peer.name}` : backend.name), make("td", {}, state),
      make("td", {}, String(backend.active)), make("td", {}, String(backend.fails)), make("td", {}, String(backend.weight)));
  });
  const heads = ["backend", "for the proxy it is", "connections", "failed connects", "weight"];
  element.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows)));
}

function drawLanes(element, stage, frame, peers) {
  const numbers = [...new Set([...peers.clients.map((client) => client.number), ...frame.lanes.map((lane) => lane.number)])];
  const shown = numbers.slice(-8);
  const focused = document.activeElement?.dataset?.key;
  element.replaceChildren(...shown.map((number) => laneOf(number, stage, frame, peers)));
  if (!shown.length) element.replaceChildren(make("p", { class: "hint" }, "No client yet. Make one, or choose a scene."));
  if (focused) element.querySelector(`[data-key="${focused}"]`)?.focus();
}

function laneOf(number, stage, frame, peers) {
  const client = peers.clients.find((one) => one.number === number) || null;
  const near = frame.lanes.find((lane) => lane.who === "client" && (client?.port ? lane.port === client.port : lane.number === number)) || null;
  const far = near && frame.lanes.find((lane) => lane.who === "backend" && lane.number === near.number) || null;
  const [backend, connection] = backendOf(far, peers);
  const scale = Math.max(stage.hello.limit || 0, 65536, ...[client, near, far, connection].flatMap((one) => (one ? [one.inq || 0, one.outq || 0, one.buffer || 0] : [])));
  const waits = client?.open && client.state === "connected" && !near ? ", not accepted yet" : "";
  const state = client ? client.state + waits : "";
  if (!near && client && !client.open) { // finished: one line is enough
    return make("article", { class: "lane gone", "aria-label": `Client ${number}` }, make("div", { class: "lane-head" }, make("h3", {}, `Client ${number}`), make("span", { class: "small" }, `${state}; it got ${bytes(client.received)}`)));
  }
  return make("article", { class: `lane${near || client?.open ? "" : " gone"}`, "aria-label": `Client ${number}` },
    make("div", { class: "lane-head" }, make("h3", {}, `Client ${number}`), make("span", { class: "small" }, `${state}${client?.open && !client.reads ? ", and does not read" : client?.rate ? `, reads ${bytes(client.rate)}/s` : ""}`),
      client?.open && !recording ? handles(client) : null),
    make("div", { class: "ends" }, endOf("client's side", near, frame), endOf(backend ? `backend ${backend.name}'s side` : "backend's side", far, frame)),
    flow("answer ←", "answer", [
      ["client's kernel", client?.inq, scale, "waits"],
      ["proxy's kernel, to send", near?.outq, scale, "waits"], ["proxy's write buffer", near?.buffer, scale, "ours", stage.hello.pause],
      ["proxy's kernel, unread", far?.inq, scale, "waits"], ["backend's kernel", connection?.outq, scale, "waits"]]),
    flow("request →", "request", [
      ["client's kernel", client?.outq, scale, "waits"], ["proxy's kernel, unread", near?.inq, scale, "waits"],
      ["proxy's write buffer", far?.buffer, scale, "ours", stage.hello.pause], ["proxy's kernel, to send", far?.outq, scale, "waits"],
      ["backend's kernel", connection?.inq, scale, "waits"]]),
    mapOf(client, near, far, connection));
}

function backendOf(far, peers) {
  if (!far) return [null, null];
  for (const backend of peers.backends) {
    const connection = backend.connections.find((one) => one.port === far.port);
    if (connection) return [backend, connection];
  }
  return [null, null];
}

function endOf(name, lane, frame) {
  if (!lane) return make("div", {}, make("span", { class: "small" }, `${name}: no socket`));
  const fired = new Set(frame.events?.filter((one) => one.who === lane.who && one.number === lane.number).flatMap((one) => one.events) || []);
  const lamps = EVENTS.filter((event) => lane.armed?.includes(event) || fired.has(event)).map((event) => {
    const classes = `lamp${lane.armed?.includes(event) ? " armed" : ""}${fired.has(event) ? " fired" : ""}`;
    const text = event.replace("EPOLL", "");
    return make("span", { class: classes, title: `${event}${lane.armed?.includes(event) ? ": asked for" : ""}${fired.has(event) ? ", reported in this round" : ""}` }, text);
  });
  const states = lane.input ? make("span", {}, " in ", make("span", { class: "state" }, lane.input), ", out ", make("span", { class: "state" }, lane.output)) : null;
  return make("div", {}, make("span", {}, `${name} `), make("span", { class: "lamps" }, ...lamps), states);
}

function flow(name, kind, places) {
  const cells = places.map(([title, count, scale, what, limit]) => {
    const fill = make("i");
    fill.style.width = `${Math.min(100, (100 * (count || 0)) / scale)}%`;
    const bar = make("div", { class: "bar" }, fill);
    if (limit && count) {
      const mark = make("u");
      mark.style[kind === "answer" ? "right" : "left"] = `calc(${Math.min(100, (100 * limit) / scale)}% - 2px)`;
      bar.append(mark);
    }
    const text = limit && count ? `${bytes(count)} (pauses above ${bytes(limit)})` : bytes(count);
    return make("div", { class: `place ${what}`, title: MEANINGS[title] }, make("span", { class: "name" }, title), bar, make("span", { class: "bytes" }, text));
  });
  return make("div", { class: `flow ${kind}` }, make("span", { class: "flow-name" }, name), ...cells);
}

function mapOf(client, near, far, connection) {
  const rows = [];
  const whole = connection?.asked || (client?.expected ? client.expected + 60 : 0);
  if (whole) rows.push(strip("answer", whole, client?.received || 0, near, connection?.sent, "the backend's program"));
  if (client?.to_send > 5000 || far?.lost) rows.push(strip("request", client?.to_send || near?.read || 1, connection?.received || 0, far, client?.sent, "the client's program"));
  return make("div", {}, ...rows);
}

function strip(name, whole, got, lane, sent, source) {
  const map = make("div", { class: "map", "aria-hidden": "true" });
  const arrived = make("i");
  const lost = lane?.lost || 0;
  arrived.style.width = `${Math.min(100, (100 * (got + (lane ? gapBefore(lane, got) : 0))) / whole)}%`;
  map.append(arrived);
  for (const [start, end] of lane?.gaps || []) {
    const gap = make("i", { class: "lost" });
    gap.style.left = `${(100 * start) / whole}%`;
    gap.style.width = `max(1px, ${(100 * (end - start)) / whole}%)`;
    map.append(gap);
  }
  const way = sent === undefined ? "" : `${bytes(Math.max(0, sent - got - lost))} on the way, ${bytes(Math.max(0, whole - sent))} not sent by ${source} yet. `;
  const text = make("p", { class: "small" }, `${name}: ${bytes(got)} of ${bytes(whole)} arrived. ${got + lost < whole ? way : ""}`, lost ? make("span", { class: "lost-text" }, `${bytes(lost)} lost.`) : "");
  return make("div", {}, map, text);
}

function gapBefore(lane, got) {
  // Where the bytes that have arrived end in the whole, when those that are lost before them are counted too.
  let shift = 0;
  for (const [start, end] of lane.gaps) if (start <= got + shift) shift += end - start;
  return shift;
}

function handles(client) {
  const button = (text, what, key) => make("button", { type: "button", "data-key": `${client.number}-${key}`, onclick: () => order({ ...what, number: client.number }) }, text);
  const slider = make("input", { type: "range", min: 0, max: 7, value: client.reads ? rateStep(client.rate) : 0, "data-key": `${client.number}-rate`,
    "aria-label": `How fast client ${client.number} reads`, style: null,
    onchange: (event) => order({ do: "rate", number: client.number, rate: [0, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, null][event.target.value] }) });
  return make("span", { class: "buttons" }, make("label", { class: "small" }, "reads ", slider),
    client.reads ? button("stop reading", { do: "rate", rate: 0 }, "stop") : button("read on", { do: "rate", rate: null }, "stop"),
    button("half-close", { do: "half-close" }, "half"), button("reset", { do: "reset" }, "reset"), button("leave", { do: "close" }, "leave"));
}

function rateStep(rate) {
  if (!rate) return 7;
  return [1e5, 3e5, 1e6, 3e6, 1e7, 3e7].findIndex((step) => rate <= step) + 1 || 6;
}

function drawRules(element, stage, taken, turn) {
  if (!element) return;
  const row = taken ? ruleOf(stage.hello.rules, taken) : -1;
  [...element.querySelectorAll("tbody tr")].forEach((line, index) => {
    line.classList.toggle("taken", index === row && turn === taken.turn);
    const note = turn === taken?.turn ? " ◀ now" : ` (last: client ${taken?.number}, round ${taken?.turn})`;
    line.lastChild.dataset.note = index === row ? note : "";
  });
}

function ruleOf(rules, { step, lost }) {
  const words = { finish: "finish", reset: "reset the peer", reset_when_delivered: "-> RESETTING", end_output: "-> ENDED", resume: "-> READING" }[step] || step;
  const found = rules.map((rule, index) => ({ rule, index })).filter(({ rule }) => (step === "finish" ? rule.step.startsWith(words) : rule.step.includes(words)));
  const one = step === "finish" ? found.find(({ rule }) => rule.when.startsWith("LOST") === lost) : found[0];
  return (one || found[0])?.index ?? -1;
}

function drawSource(element, stage, place) {
  const source = element.querySelector(".source");
  if (!place || !stage.hello.sources[place.file]) return;
  const lines = stage.hello.sources[place.file].split("\n");
  const first = Math.max(0, place.line - 5);
  element.querySelector(".place-name").textContent = `${place.waits ? "It waits in" : "The latest call:"} ${place.call}, in ${place.function}, ${place.file}, line ${place.line}`;
  const shown = lines.slice(first, place.line + 4);
  const indent = Math.min(...shown.filter((text) => text.trim()).map((text) => text.length - text.trimStart().length));
  source.replaceChildren(...shown.flatMap((text, index) => {
    const line = `${String(first + index + 1).padStart(4)}  ${text.slice(indent)}`;
    return first + index + 1 === place.line ? [make("mark", {}, line), "\n"] : [`${line}\n`];
  }));
}

function noteBackends(message) {
  const element = byId("backend-buttons");
  const key = JSON.stringify(message.backends.map((backend) => [backend.name, backend.alive, backend.stopped, backend.full]));
  if (message.stage !== 0 || element.dataset.state === key) return;
  element.dataset.state = key;
  element.replaceChildren(...message.backends.map((backend, index) => {
    const button = (text, what) => make("button", { type: "button", onclick: () => order({ do: what, backend: index }) }, text);
    const state = !backend.alive ? "dead" : backend.stopped ? "stopped" : backend.full ? "accepts nobody" : "works";
    const buttons = !backend.alive ? [button("revive", "revive")] : [button("kill", "kill"),
      backend.stopped ? button("continue", "continue") : button("stop", "stop"), backend.full ? button("accept again", "drain") : button("accept nobody", "fill")];
    return make("div", { class: "buttons", role: "group", "aria-label": `Backend ${backend.name}` }, make("span", {}, `${backend.name} ${state} `), ...buttons);
  }));
}

// --- scenes --------------------------------------------------------------------------------------------

function takeScene(message) {
  scene = scenes.find((one) => one.name === message.name) || recording?.scene;
  byId("card").hidden = false;
  byId("card-title").textContent = scene.title;
  byId("card-intro").textContent = scene.intro;
  if (message.phase === "setup") {
    chosen = null;
    judged = false;
    byId("scene-box").open = false;
    byId("question").hidden = true;
    byId("verdict").textContent = "";
    log(`Scene: ${scene.title}`);
  } else if (message.phase === "question") {
    ask();
  } else if (message.phase === "done" && !judged) {
    judge();
  }
}

function ask() {
  byId("question").hidden = false;
  byId("question-text").textContent = scene.question;
  byId("choices").replaceChildren(...Object.entries(scene.choices).map(([key, text]) =>
    make("label", {}, make("input", { type: "radio", name: "choice", value: key, required: true }), ` ${text}`)));
  byId("question").querySelector("button").disabled = false;
  if (!recording) byId("question").querySelector("input").focus();
}

function judge() {
  judged = true;
  const verdict = byId("verdict");
  const { choice, seen } = judges[scene.judge](messages);
  const right = chosen === choice;
  verdict.classList.toggle("wrong", !right);
  verdict.dataset.choice = choice;
  verdict.replaceChildren(make("h3", {}, chosen === null ? "What happened" : right ? "Yes." : "No: look."),
    make("p", {}, make("b", {}, scene.choices[choice] || "None of these."), ` ${seen}`), make("p", {}, scene.explain));
  log(`What happened: ${scene.choices[choice] || "none of the choices"} ${seen}`);
}

byId("question").addEventListener("submit", (event) => {
  event.preventDefault();
  chosen = new FormData(event.target).get("choice");
  event.target.querySelector("button").disabled = true;
  byId("verdict").textContent = "Watch.";
  if (recording) play.goOn();
  else order({ do: "answer", choice: chosen });
});

// --- handles -------------------------------------------------------------------------------------------

function showPace(name) {
  pace = name;
  for (const button of document.querySelectorAll("[data-pace]")) {
    if (button.dataset.pace !== "step") button.setAttribute("aria-pressed", String(button.dataset.pace === name));
  }
}

function setPace(name) {
  if (name === "step") order({ do: "pace", pace: "pause", steps: 1 });
  else order({ do: "pace", pace: name, delay: name === "slow" ? 0.25 : 0 });
}

for (const button of document.querySelectorAll("[data-pace]")) button.addEventListener("click", () => setPace(button.dataset.pace));
for (const button of document.querySelectorAll("[data-client]")) {
  button.addEventListener("click", async () => {
    const { client, count, rate } = button.dataset;
    if (client !== "four") return order({ do: "client", kind: client, count: Number(count || 0), rate: rate ? Number(rate) : null });
    for (let number = 0; number < 4; number++) await order({ do: "client", kind: "download", count: 5000000, rate: 1000000 });
  });
}
byId("restart").addEventListener("click", () => order({ do: "start" }));
byId("reveal").addEventListener("click", () => order({ do: "tell-bug" }));
byId("slider").addEventListener("input", (event) => { position = Number(event.target.value); due(); });
byId("now").addEventListener("click", () => { position = null; due(); });
byId("big").addEventListener("click", toggleBig);

function toggleBig() {
  const big = document.documentElement.classList.toggle("big");
  byId("big").setAttribute("aria-pressed", String(big));
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=radio]), select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "p") setPace(pace === "pause" ? "live" : "pause");
  else if (event.key === "n") setPace("step");
  else if (event.key === "b") toggleBig();
});

// --- the two sources: a server, or a recording ---------------------------------------------------------

const play = {
  next: 0,
  started: 0, // on the clock of the page, in seconds
  timer: null,
  waiting: false,
  begin() {
    clearTimeout(this.timer);
    restart();
    Object.assign(this, { next: 0, started: performance.now() / 1000, waiting: false });
    this.step();
  },
  step() {
    const now = (performance.now() / 1000 - this.started) * PLAY_SPEED;
    while (this.next < recording.messages.length && recording.messages[this.next].at <= now && !this.waiting) {
      const message = recording.messages[this.next++];
      take(message);
      if (message.kind === "scene" && message.phase === "question") this.waiting = true;
    }
    if (this.next < recording.messages.length && !this.waiting) this.timer = setTimeout(() => this.step(), 40);
  },
  goOn() {
    if (!this.waiting) return;
    this.waiting = false;
    this.started = performance.now() / 1000 - recording.messages[this.next - 1].at / PLAY_SPEED;
    this.step();
  },
};

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function main() {
  if (isRecording) {
    recording = await unpack(byId("recording").textContent);
    document.body.classList.add("recorded");
    byId("subtitle").textContent = "A recording of the real proxy. Nothing here is simulated.";
    byId("replay").addEventListener("click", () => play.begin());
    return play.begin();
  }
  scenes = (await (await fetch("/scenes")).json()).scenes;
  byId("scene-list").replaceChildren(...scenes.map((one, index) =>
    make("button", { type: "button", "data-scene": one.name, title: one.for, onclick: () => order({ do: "scene", name: one.name }) },
      `${index + 1}. ${one.title} (part ${one.stages.join(" and ")})`)));
  const source = new EventSource("/events");
  source.onmessage = (event) => JSON.parse(event.data).forEach(take);
  source.onopen = restart;
}

main();

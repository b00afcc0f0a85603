// The judges of the scenes. Each looks at everything that happened, and returns the choice that came true, and how that
// can be seen. Nothing here knows an answer in advance.
"use strict";

const judges = (() => {
  const megabytes = (bytes) => (bytes < 1e6 ? `${Math.round(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`);
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
  const ofStage = (messages, stage) => messages.filter((message) => message.stage === stage);
  const peersOf = (messages, stage) => ofStage(messages, stage).filter((message) => message.kind === "peers");
  const clientIn = (message, number) => message.clients.find((client) => client.number === number);
  const lastPeers = (messages, stage) => peersOf(messages, stage).at(-1);
  const markAt = (messages, text) => messages.find((message) => message.kind === "mark" && message.text === text).at;
  const laneOf = (message, who, number) => (message.lanes || []).find((lane) => lane.who === who && lane.number === number);
  const titleOf = (messages, stage) => ofStage(messages, stage).find((message) => message.kind === "hello").title;
  const stagesOf = (messages) => messages.filter((message) => message.kind === "hello").length;

  function whenSecondIsServed(messages) {
    const served = peersOf(messages, 0).find((message) => (clientIn(message, 2) || {}).received > 0);
    const asked = messages.find((message) => message.kind === "action" && message.order.kind === "small").at;
    const left = messages.find((message) => message.kind === "action" && message.order.do === "close").at;
    if (!served) return { choice: "never", seen: "Client 2 did not get a byte." };
    const seen = `Client 2 asked, and its page came ${(served.at - asked).toFixed(1)} s later; client 1 left after ${(left - asked).toFixed(1)} s.`;
    return { choice: served.at < left - 0.05 ? "at once" : "later", seen };
  }

  function whoGotAll(messages) {
    const results = [...Array(stagesOf(messages)).keys()].map((stage) => clientIn(lastPeers(messages, stage), 1));
    const all = results.map((client) => client.body >= client.expected);
    const seen = results.map((client, stage) =>
      `${titleOf(messages, stage)}: ${megabytes(client.body)} of ${megabytes(client.expected)}`).join("; ");
    return { choice: all.every(Boolean) ? "both" : all[1] ? "second" : all[0] ? "first" : "none", seen: sentence(seen) };
  }

  function whichFillsFirst(messages) {
    const series = { client: [], kernel: [], buffer: [] };
    for (const message of ofStage(messages, 0)) {
      if (message.kind === "peers" && clientIn(message, 1)) series.client.push([message.at, clientIn(message, 1).inq]);
      const lane = laneOf(message, "client", 1);
      if (lane) {
        series.kernel.push([message.at, lane.outq]);
        series.buffer.push([message.at, lane.buffer || 0]);
      }
    }
    const full = Object.entries(series).map(([name, points]) => {
      const most = Math.max(...points.map((point) => point[1]));
      return { name, most, at: points.find((point) => point[1] >= 0.9 * most)[0] };
    }).sort((one, other) => one.at - other.at);
    const start = full[0].at;
    const names = { client: "the client's kernel", kernel: "the proxy's kernel", buffer: "the write buffer" };
    const seen = sentence(full.map((place) => `${names[place.name]}: ${megabytes(place.most)}, after ${(place.at - start).toFixed(1)} s`).join("; "));
    return { choice: full[0].name, seen };
  }

  function howMuchWasSent(messages) {
    const connections = lastPeers(messages, 0).backends.flatMap((backend) => backend.connections);
    const { sent, asked } = connections.at(-1);
    const seen = `The backend has sent ${megabytes(sent)} of ${megabytes(asked)}.`;
    return { choice: sent >= asked ? "all" : sent > 0 ? "some" : "nothing", seen };
  }

  function whatMadeItSend(messages) {
    const after = markAt(messages, "reads again");
    const round = ofStage(messages, 0).find((message) => message.kind === "round" && message.at > after &&
      message.calls.some((call) => call.call === "send" && call.who === "client" && call.taken > 0));
    const event = round && round.events.find((one) => one.who === "client" && one.number === 1);
    if (!event) return { choice: "none", seen: "Bytes were sent in a round without an event on the client's socket." };
    const choice = event.events.includes("EPOLLOUT") ? "EPOLLOUT" : "EPOLLIN";
    return { choice, seen: `Round ${round.turn} brought ${event.events.join(" and ")}, and sent what had waited.` };
  }

  function whoGoesOn(messages) {
    const end = markAt(messages, "end");
    const growth = [0, 1].map((stage) => {
      const before = peersOf(messages, stage).filter((message) => message.at <= end);
      const start = before.filter((message) => message.at <= end - 1.2).at(-1) || before[0];
      return clientIn(before.at(-1), 1).body - clientIn(start, 1).body;
    });
    const seen = `In the last 1.2 s: ${growth.map((bytes, stage) => `${titleOf(messages, stage)} ${megabytes(bytes)}`).join(", ")}.`;
    const on = growth.map((bytes) => bytes > 0);
    return { choice: on[0] && on[1] ? "both" : on[1] ? "second" : on[0] ? "first" : "none", seen };
  }

  function whatTheBackendSaw(messages) {
    const connection = lastPeers(messages, 0).backends.flatMap((backend) => backend.connections).at(-1);
    const seen = `The backend's connection: ${connection.ended || "still open"}, with ${megabytes(connection.sent)} of ${megabytes(connection.asked)} sent.`;
    if (connection.ended === "end of file") return { choice: "end of file", seen };
    return { choice: connection.ended ? "reset" : "nothing", seen };
  }

  function whoLost(messages) {
    const dies = markAt(messages, "dies");
    const before = peersOf(messages, 0).filter((message) => message.at <= dies).at(-1);
    const b = before.backends[1].connections.filter((connection) => connection.asked).length; // others are health checks
    const clients = lastPeers(messages, 0).clients;
    const lost = clients.filter((client) => client.number <= 5 && client.state !== "connected" && client.body < client.expected);
    const fresh = clients.filter((client) => client.number > 5);
    const served = fresh.filter((client) => client.received > 0);
    const seen = `B was serving ${b}. Clients that lost their download: ${lost.map((client) => client.number).join(" and ") || "none"}. New clients served: ${served.length} of ${fresh.length}.`;
    if (!lost.length) return { choice: "nobody", seen };
    return { choice: served.length === fresh.length ? "its own" : "new too", seen };
  }

  return { whenSecondIsServed, whoGotAll, whichFillsFirst, howMuchWasSent, whatMadeItSend, whoGoesOn, whatTheBackendSaw, whoLost };
})();

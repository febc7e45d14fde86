// A page's backend in JavaScript: a list for a visitor, a click, and the rankings as they come. Needs nothing but Node 18.
//
//     LIVERANK_GATEWAY_TOKENS=some-long-token-of-yours liverank gateway &
//     LIVERANK_GATEWAY_TOKEN=some-long-token-of-yours node examples/gateway.mjs http://127.0.0.1:8080

import { randomUUID } from "node:crypto";

const gateway = process.argv[2] ?? "http://127.0.0.1:8080";
const token = process.env.LIVERANK_GATEWAY_TOKEN;
const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };

/** Ask until the gateway takes it: what has an `event_id` counts once however often it arrives. */
async function post(path, body, tries = 5) {
  const answer = await fetch(gateway + path, { method: "POST", headers, body: JSON.stringify(body) });
  if ((answer.status === 503 || answer.status === 429) && tries > 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
    return post(path, body, tries - 1);
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(`${answer.status}: ${found.error}`);
  return found;
}

/** A user's rankings as they come; `EventSource` would do the same, but cannot send a token. */
async function* follow(user, signal) {
  const answer = await fetch(`${gateway}/v1/users/${encodeURIComponent(user)}/rankings`, { headers, signal });
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.json()).error}`);
  let rest = "";
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}

const user = `visitor-${randomUUID().slice(0, 8)}`;
const candidates = { request_id: "page-1", user_id: user, items: ["tea", "coffee", "mug"].map((item_id) => ({ item_id })) };
const order = (ranking) => ranking?.items.map((line) => line.item_id).join(", ");

const first = await post("/v1/rank", { candidates, within_ms: 5000 });
console.log(`ranked: ${order(first.ranking)}${first.stale ? " (not up to date)" : ""}`);

const click = { user_id: user, item_id: "mug", action: "click", event_id: randomUUID() };
const { accepted } = await post("/v1/events", click);

const ended = new AbortController();
for await (const ranking of follow(user, ended.signal)) {
  if ((ranking.applied[accepted[0].topic] ?? -1) >= accepted[0].offset) {
    console.log(`after the click: ${order(ranking)}`);
    break;
  }
}
ended.abort();

// The page: which side is looked at, who is let in, and whether the server is there.

import { OperatorSide } from "./operator.js";
import { Shopper } from "./shopper.js";
import { ask } from "./talk.js";

const AGAIN_MS = 1000;
const byId = (id) => document.getElementById(id);
const streams = { shopper: true, operator: true };

const shopper = new Shopper((there) => connected("shopper", there));
const operator = new OperatorSide((there) => connected("operator", there));
let started = false;

/** Say when the server is gone, and when it is back. */
function connected(side, there) {
  streams[side] = there;
  const gone = !Object.values(streams).every(Boolean);
  const told = byId("connection");
  if (gone) told.textContent = "The server is gone. This page looks for it, and goes on by itself.";
  else if (told.textContent !== "") told.textContent = "";
  document.body.classList.toggle("gone", gone);
}

/** Show the side that the address names; any other address leaves it as it is. */
function route() {
  const side = location.hash.slice(1) || "shopper";
  if (side !== "shopper" && side !== "operator") return;
  for (const one of ["shopper", "operator"]) {
    byId(one).hidden = one !== side || !started;
    if (one === side) byId(`to-${one}`).setAttribute("aria-current", "page");
    else byId(`to-${one}`).removeAttribute("aria-current");
  }
  document.title = side === "shopper" ? "liverank: a list that follows you" : "liverank: how the system does";
  if (started && side === "operator") operator.look();
  else {
    operator.leave();
    connected("operator", true);
  }
}

async function start() {
  let state;
  try {
    state = await ask("web/state");
  } catch (problem) {
    if (problem.status === 401) return signIn();
    connected("shopper", false);
    if (problem.status !== 0) byId("connection").textContent = problem.message;
    setTimeout(start, AGAIN_MS);
    return;
  }
  started = true;
  connected("shopper", true);
  byId("sign-in").hidden = true;
  operator.start(state);
  route();
  shopper.start(state);
}

function signIn() {
  for (const side of ["shopper", "operator"]) byId(side).hidden = true;
  byId("sign-in").hidden = false;
  byId("token").focus();
}

byId("sign-in-form").onsubmit = async (event) => {
  event.preventDefault();
  const told = byId("sign-in-problem");
  told.textContent = "";
  try {
    await ask("web/session", { token: byId("token").value });
    byId("token").value = "";
    start();
  } catch (problem) {
    told.textContent = problem.message;
  }
};
addEventListener("hashchange", route);
start();

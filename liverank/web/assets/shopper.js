// The shopper's side: a person, a list, and what the rankings make of it.

import { glide } from "./glide.js";
import { ask, follow } from "./talk.js";

const KEPT = "liverank.person";
const RANKED_WITHIN_MS = 5000; // after that the page says that nobody ranks
const LOOK_AGAIN_MS = 2000;
const REASONS = 3; // of an item, once somebody asks for them
const AT_ONCE = 4; // actions beside an item; more are behind a word
const byId = (id) => document.getElementById(id);
const named = (begin) => `${begin}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;

export class Shopper {
  #state; // what the server says of the system
  #person = null; // {user, request, items}: what a reload of the page finds again
  #ranking = null; // the newest of the list
  #lines = new Map(); // item -> its line on the page
  #waiting = null; // {topic, offset} that a ranking has to know of
  #late; // the timer that says that none came
  #lookAgain; // the timer that looks for items
  #asks = false; // whether the list asks for reasons: they cost the worker time
  #titles = new Map(); // of the items that this window has shown, by id
  #unfollow = () => {};
  #connected;

  /** `connected` hears whether the stream of rankings stands. */
  constructor(connected) {
    this.#connected = connected;
    byId("another-list").onclick = () => this.#draw();
    byId("new-person").onclick = () => this.#begin(named("person"));
    byId("reset").onclick = () => this.#forget();
    byId("words-form").onsubmit = (event) => {
      event.preventDefault();
      this.#type(byId("words"));
    };
  }

  /** Go on with the person whom this window had, or begin with a new one. */
  start(state) {
    this.#state = state;
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    if (kept === null || kept.items.length === 0) return this.#begin(kept?.user ?? named("person"));
    this.#person = kept;
    this.#show();
    this.#listen();
    return this.#rank([]);
  }

  #begin(user) {
    this.#person = { user, request: null, items: [] };
    this.#listen();
    return this.#draw();
  }

  #listen() {
    this.#unfollow();
    byId("person").textContent = this.#person.user;
    const path = `v1/users/${encodeURIComponent(this.#person.user)}/rankings`;
    this.#unfollow = follow(path, { ranking: (ranking) => this.#take(ranking) }, this.#connected);
  }

  /** Another list: of items that the catalogue has. */
  async #draw() {
    clearTimeout(this.#lookAgain);
    try {
      const { items, read } = await ask("web/list");
      if (items.length === 0) {
        this.#note(
          read
            ? "There are no items yet: nothing was sent to the topic items. The list begins with the first ones."
            : "The catalogue is being read.",
        );
        this.#lookAgain = setTimeout(() => this.#draw(), LOOK_AGAIN_MS);
        return;
      }
      this.#person.items = items;
      await this.#ask();
    } catch (problem) {
      this.#note(problem.message);
      if (problem.status !== 401) this.#lookAgain = setTimeout(() => this.#draw(), LOOK_AGAIN_MS);
    }
  }

  /** Have the system forget the person, and show the same list to who is left. */
  async #forget() {
    try {
      await ask("v1/erasures", { user_id: this.#person.user });
      if (this.#person.items.length > 0) await this.#ask();
      this.#say("You are forgotten. The list is as it was drawn, ranked for somebody of whom nothing is known.");
    } catch (problem) {
      this.#note(problem.message);
    }
  }

  /** The items as a new list of the person's. */
  async #ask() {
    this.#person.request = named("list");
    this.#ranking = null;
    this.#asks = false;
    this.#show();
    await this.#rank([]);
  }

  #show() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.#person));
    for (const item of this.#person.items) this.#titles.set(item.candidate.item_id, item.title);
    this.#lines = new Map(this.#person.items.map((item) => [item.candidate.item_id, this.#line(item)]));
    byId("list").replaceChildren(...this.#lines.values());
    this.#number();
    byId("list-foot").textContent = "";
  }

  async #rank(events) {
    const { user, request, items } = this.#person;
    const candidates = { request_id: request, user_id: user, items: items.map((item) => item.candidate) };
    if (this.#asks) candidates.reasons = REASONS;
    try {
      const { stale, ranking } = await ask("v1/rank", { candidates, events, within_ms: RANKED_WITHIN_MS });
      if (ranking !== null) this.#take(ranking);
      if (stale && this.#person.request === request) this.#nobodyRanks();
      else if (!stale) this.#note("");
    } catch (problem) {
      this.#note(problem.message);
    }
  }

  async #act(item, action, button) {
    const at = [...byId("list").children].indexOf(this.#lines.get(item));
    const event = { user_id: this.#person.user, item_id: item, action, request_id: this.#person.request, position: at };
    event.event_id = named("page");
    if (this.#ranking) {
      event.ranking_id = this.#ranking.ranking_id;
      event.revision = this.#ranking.revision;
    }
    try {
      const { accepted } = await ask("v1/events", event);
      button.classList.add("done");
      this.#lines.get(item)?.classList.add("touched");
      this.#await(accepted[0]);
    } catch (problem) {
      this.#note(problem.message);
    }
  }

  /** What a person types is an event without an item. */
  async #type(box) {
    const text = box.value.trim();
    if (text === "") return;
    const event = { user_id: this.#person.user, action: "search", text, event_id: named("page") };
    try {
      const { accepted } = await ask("v1/events", event);
      box.value = "";
      this.#await(accepted[0]);
    } catch (problem) {
      this.#note(problem.message);
    }
  }

  /** Until a ranking knows of what was sent it may be late. */
  #await(sent) {
    this.#waiting = sent;
    clearTimeout(this.#late);
    if (this.#covered()) return;
    this.#late = setTimeout(() => this.#nobodyRanks(), RANKED_WITHIN_MS);
  }

  #covered() {
    const { topic, offset } = this.#waiting ?? {};
    const known = topic === undefined || (this.#ranking?.applied[topic] ?? -1) >= offset;
    if (known) {
      clearTimeout(this.#late);
      this.#waiting = null;
    }
    return known;
  }

  #nobodyRanks() {
    this.#note(
      `No worker has answered for ${RANKED_WITHIN_MS / 1000} s: the list is stale. What you did is kept, and the list ` +
        "follows as soon as one does.",
    );
  }

  #take(ranking) {
    const newest = this.#ranking;
    if (ranking.request_id !== this.#person.request) return;
    if (newest && (ranking.epoch < newest.epoch ||
        (ranking.epoch === newest.epoch && ranking.revision <= newest.revision))) return;
    this.#ranking = ranking;
    if (this.#covered()) this.#note("");
    this.#reorder(ranking);
  }

  #reorder(ranking) {
    const list = byId("list");
    const before = new Map([...list.children].map((line, at) => [line, at]));
    const ranked = ranking.items.map((one) => this.#lines.get(one.item_id)).filter(Boolean);
    const left = [...list.children].filter((line) => !ranked.includes(line));
    glide(list, () => list.append(...ranked, ...left));
    for (const line of left) line.classList.add("left-out");
    const chances = ranking.items.map((one) => this.#chance(one));
    const most = Math.max(...chances.filter((one) => one !== null), 0);
    ranking.items.forEach((one, at) => this.#weigh(one, chances[at], most));
    const moved = ranked.filter((line, at) => this.#mark(line, before.get(line) - at)).length;
    this.#number();
    byId("list-foot").textContent = `Ranking ${ranking.revision}, by version ${ranking.model}` +
      (ranking.delta ? ` and what it has learned since` : "") + (most > 0 ? `; the bar is the chance of “${this.#predicted()}”` : "");
    const first = ranked.slice(0, 3).map((line) => line.querySelector(".item-title").textContent);
    const told = ranked.filter((line) => !line.querySelector(".reasons").hidden).map((line) => this.#tellWhy(line));
    this.#say(`${moved === 0 ? "The order stays" : `${moved} of ${ranked.length} have moved`}. First: ${first.join(", ")}. ${told.join(" ")}`.trim());
  }

  /** Show or hide why an item stands where it does; the first question has the list ask for reasons. */
  #why(line, button) {
    const reasons = line.querySelector(".reasons");
    reasons.hidden = !reasons.hidden;
    button.setAttribute("aria-expanded", String(!reasons.hidden));
    if (reasons.hidden) return;
    this.#say(this.#tellWhy(line));
    if (this.#asks) return;
    this.#asks = true;
    this.#rank([]);
  }

  /** Put the reasons of the newest ranking into a line; the same as a sentence. */
  #tellWhy(line) {
    const items = this.#ranking?.items ?? [];
    const own = items.find((one) => one.item_id === line.dataset.item)?.reasons ?? [];
    const told = items.some((one) => one.reasons?.length > 0);
    const none = told ? "nothing that is known moves it" : "the reasons come with the next ranking";
    const words = own.length > 0 ? own.map((reason) => this.#withTitle(reason)) : [none];
    const lines = words.map((sentence) => {
      const shown = document.createElement("li");
      shown.textContent = sentence;
      return shown;
    });
    line.querySelector(".reasons").replaceChildren(...lines);
    return `Why ${line.querySelector(".item-title").textContent} stands here: ${words.join("; ")}.`;
  }

  /** A reason's words, with the title of its item in the place of the id. */
  #withTitle({ words, item_id: item }) {
    const title = this.#titles.get(item);
    return title === undefined ? words : words.replaceAll(`“${item}”`, () => `“${title}”`);
  }

  #predicted() {
    const positive = this.#state.actions.filter((action) => action.positive);
    return (positive.find((action) => action.name === "click") ?? positive[0])?.name;
  }

  /** The chance of the action that is shown; null where the ranking says none. */
  #chance(one) {
    const chances = one.probabilities ?? {};
    return chances[this.#predicted()] ?? Object.values(chances)[0] ?? null;
  }

  #weigh(one, chance, most) {
    const line = this.#lines.get(one.item_id);
    if (!line) return;
    line.classList.remove("left-out");
    const bar = line.querySelector(".bar");
    bar.hidden = chance === null;
    if (chance === null) return;
    bar.firstElementChild.style.width = `${(100 * chance) / (most || 1)}%`;
    line.querySelector(".chance").textContent = `${(100 * chance).toFixed(chance < 0.1 ? 1 : 0)} %`;
  }

  /** Say beside a line how far it has moved; whether it has. */
  #mark(line, up) {
    const place = line.querySelector(".moved");
    place.className = `moved ${up > 0 ? "up" : up < 0 ? "down" : ""}`;
    place.replaceChildren();
    if (up === 0) return false;
    const sign = document.createElement("span");
    sign.setAttribute("aria-hidden", "true");
    sign.textContent = `${up > 0 ? "+" : "−"}${Math.abs(up)}`;
    const words = document.createElement("span");
    words.className = "unseen";
    words.textContent = `moved ${up > 0 ? "up" : "down"} ${Math.abs(up)}`;
    place.append(sign, words);
    return true;
  }

  #number() {
    [...byId("list").children].forEach((line, at) => {
      line.querySelector(".rank").textContent = at + 1;
    });
  }

  #line(item) {
    const line = byId("line").content.cloneNode(true).firstElementChild;
    const id = item.candidate.item_id;
    line.dataset.item = id;
    const picture = line.querySelector(".picture");
    picture.textContent = initials(item.title);
    picture.style.setProperty("--hue", hue(item.category || item.title));
    const title = line.querySelector(".item-title");
    title.textContent = item.title;
    title.onclick = () => this.#act(id, "click", title);
    const why = line.querySelector(".why");
    const reasons = line.querySelector(".reasons");
    reasons.id = named("reasons");
    why.setAttribute("aria-controls", reasons.id);
    why.setAttribute("aria-label", `Why ${item.title} stands here`);
    why.onclick = () => this.#why(line, why);
    const price = item.price === undefined ? null : item.price.toFixed(item.price % 1 ? 2 : 0);
    line.querySelector(".about").textContent = [item.category, price].filter(Boolean).join(" · ");
    const buttons = this.#state.actions.map(({ name }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.dataset.action = name;
      button.setAttribute("aria-label", `${name} ${item.title}`);
      button.onclick = () => this.#act(id, name, button);
      return button;
    });
    line.querySelector(".actions").append(...buttons.slice(0, AT_ONCE), ...more(buttons.slice(AT_ONCE)));
    return line;
  }

  #note(sentence) {
    byId("list-note").textContent = sentence;
  }

  #say(sentence) {
    byId("said").textContent = sentence;
  }
}

/** Actions that are not shown at once, behind a word. */
function more(buttons) {
  if (buttons.length === 0) return [];
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = "more";
  details.append(summary, ...buttons);
  return [details];
}

/** Two letters that stand for a picture. */
function initials(title) {
  const words = title.match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

/** A colour for a text, always the same: degrees of the circle. */
function hue(text) {
  let found = 7;
  for (const letter of text) found = (31 * found + letter.codePointAt(0)) % 360;
  return found;
}

// The operator's side: figures as they come, and the commands that move versions.

import { interval, line, short, signed, span } from "./charts.js";
import { ask, follow } from "./talk.js";

const KEPT = 300; // readings that charts go back
const RANKED = 4; // versions whose clicks are shown, the newest
const STARTER_MS = Date.UTC(2000, 0, 1);
const byId = (id) => document.getElementById(id);

export class OperatorSide {
  #readings = [];
  #view = null;
  #unfollow = null;
  #connected;

  /** `connected` hears whether the stream of figures stands. */
  constructor(connected) {
    this.#connected = connected;
    for (const id of ["pin", "roll-back"]) byId(id).onclick = (event) => this.#command(event.target.dataset.what, null);
    byId("operator-form").onsubmit = (event) => event.preventDefault();
  }

  /** Show what an operator may do here. */
  start(state) {
    byId("operator-form").hidden = !state.buttons;
    byId("no-buttons").hidden = state.buttons;
    this.#mayCommand = state.buttons;
  }

  #mayCommand = false;

  /** Figures are read only while this side is looked at. */
  look() {
    if (this.#unfollow !== null) return;
    const heard = {
      past: (figures) => this.#keep(figures),
      figures: (figures) => {
        this.#keep(figures);
        this.#show(figures);
      },
      control: (view) => this.#control(view),
    };
    this.#unfollow = follow("web/figures", heard, this.#connected);
  }

  /** Nobody looks any more. */
  leave() {
    this.#unfollow?.();
    this.#unfollow = null;
  }

  #keep(figures) {
    if (figures.at <= (this.#readings.at(-1)?.at ?? 0)) return; // known from before the stream broke
    this.#readings.push(figures);
    if (this.#readings.length > KEPT) this.#readings.shift();
  }

  #show(figures) {
    const waiting = figures.lag.reduce((sum, one) => sum + one.waiting, 0);
    byId("as-of").textContent = `${new Date(figures.at).toLocaleTimeString()}, ${count(figures.workers, "worker")}`;
    this.#pair("events", short(figures.events_a_second), "events/s", (one) => one.events_a_second);
    this.#pair("rankings", short(figures.rankings_a_second), "rankings/s", (one) => one.rankings_a_second);
    this.#pair("p50", short(figures.p50_ms), "ms, p50", (one) => one.p50_ms);
    this.#pair("p99", short(figures.p99_ms), "ms, p99", (one) => one.p99_ms);
    this.#pair("rank", short(figures.rank_now), "last minute", (one) => one.rank_now);
    this.#pair("waiting", short(waiting), "inputs", (one) => one.lag.reduce((sum, part) => sum + part.waiting, 0));
    this.#lag(figures.lag);
    byId("ranks").replaceChildren(
      table(["version", "clicks", "mean"], figures.ranks.toReversed().slice(0, RANKED).map((one) => [
        code(one.version), short(one.clicks), one.mean.toFixed(3),
      ]), "No click has been counted yet."),
    );
    this.#trainer(figures.trainer);
    this.#model(figures);
    this.#canary(figures.comparison);
    this.#problems(figures.missing);
  }

  #pair(id, number, what, value) {
    byId(id).replaceChildren(text("b", number), ` ${what}`);
    byId(`${id}-chart`).replaceChildren(line(this.#readings.map((one) => [one.at, value(one)]), what));
  }

  #lag(lag) {
    const partitions = new Map();
    for (const { partition, waiting } of lag) partitions.set(partition, (partitions.get(partition) ?? 0) + waiting);
    const rows = [...partitions].sort(([a], [b]) => a - b).map(([partition, waiting]) => {
      const parts = lag.filter((one) => one.partition === partition && one.waiting > 0);
      return [String(partition), short(waiting), parts.map((one) => `${one.topic} ${one.waiting}`).join(", ")];
    });
    byId("lag").replaceChildren(table(["partition", "inputs", "of"], rows, "No worker has told of its partitions."));
  }

  #trainer(trainer) {
    if (trainer === null) {
      byId("learned").textContent = "no answer";
      byId("learned-chart").replaceChildren();
      byId("trainer").replaceChildren();
      return;
    }
    this.#pair("learned", short(trainer.examples_a_second), "examples/s", (one) => one.trainer?.examples_a_second ?? null);
    const { promoted, ...others } = { promoted: 0, ...trainer.bundles };
    describe("trainer", [
      ["learned from", `${short(trainer.examples)} examples` + (trainer.learned_age_s === null ? "" : `, the newest ${span(trainer.learned_age_s)} ago`)],
      ["still to be read", short(trainer.waiting)],
      ["loss", short(trainer.loss)],
      ["deltas sent", short(trainer.deltas)],
      ["versions", `${promoted} promoted` + Object.entries(others).map(([what, n]) => `, ${n} ${what}`).join("")],
      ["reciprocal rank", Object.entries(trainer.ranks).map(([ranker, value]) => `${ranker} ${value.toFixed(3)}`).join(", ") || "–"],
    ]);
  }

  #model(figures) {
    const serving = figures.versions.length > 0 ? figures.versions : [this.#view?.serving].filter(Boolean);
    const made = this.#view?.versions.find((one) => one.version === serving[0])?.created;
    const deltas = Object.entries(figures.deltas).map(([what, n]) => `${short(n)} ${what}`).join(", ");
    describe("model", [
      ["version", serving.length > 0 ? serving.map(code) : "none yet"],
      ["made", age(serving[0], made)],
      ["has learned up to", figures.learned_age_s === null ? "–" : `${span(figures.learned_age_s)} ago`],
      ["swaps", `${figures.swaps}${figures.rejected ? `, ${figures.rejected} refused` : ""}`],
      ["deltas", deltas ? `${deltas}; ${short(figures.delta_rows)} item rows` : "none"],
      ...(figures.restart_needed ? [["inputs", "workers have to be started again"]] : []),
    ]);
  }

  #canary(comparison) {
    const place = byId("canary");
    const { canary, share } = this.#view ?? {};
    if (!canary) return place.replaceChildren(text("p", "No version is tried on a share of the people.", "faint"));
    const of = { ranks: "reciprocal rank of clicks", lists: "clicks per list" };
    const rows = comparison.map((one) => [
      of[one.measure], signed(one.difference), `${signed(one.low)} to ${signed(one.high)}`,
      interval(one.difference, one.low, one.high, of[one.measure]),
    ]);
    place.replaceChildren(
      text("p", `${canary} for ${short(100 * share)} % of the people, above what serves by:`),
      table(["measure", "difference", "bounds", ""], rows, "No worker compares it yet."),
    );
  }

  #control(view) {
    this.#view = view;
    const serves = (version) => this.#readings.at(-1)?.versions.includes(version);
    const rows = view.versions.map((one) => {
      const button = document.createElement("button");
      button.textContent = one.stage === "canary" ? "End canary" : "Promote";
      button.setAttribute("aria-label", `${button.textContent} ${one.version}`);
      button.onclick = () => this.#command(one.stage === "canary" ? "rollback" : "promote", one.version);
      return [
        code(one.version), one.stage ?? (serves(one.version) ? "serves" : ""), age(one.version, one.created),
        Object.entries(one.metrics).slice(0, 3).map(([name, value]) => `${name} ${short(value)}`).join(", "),
        ...(this.#mayCommand ? [one.version === view.serving || (!view.serving && serves(one.version)) ? "" : button] : []),
      ];
    });
    const head = ["version", "stage", "made", "measured when made", ...(this.#mayCommand ? [""] : [])];
    keepingFocus(byId("versions"), table(head, rows, "The registry has no version yet."));
    byId("letters").replaceChildren(
      table(["sent", "where", "reason", "what was wrong", "message"], view.dead_letters.map((one) => [
        one.sent.slice(0, 19).replace("T", " "), `${one.topic}-${one.partition}:${one.offset}`, code(one.reason), one.error, code(one.value),
      ]), "Nothing was refused."),
    );
    this.#problems(this.#readings.at(-1)?.missing ?? []);
    if (this.#readings.length > 0) {
      this.#model(this.#readings.at(-1));
      this.#canary(this.#readings.at(-1).comparison);
    }
  }

  #problems(missing) {
    const sentences = [...missing, ...(this.#view?.problems ?? [])];
    byId("problems").replaceChildren(...sentences.map((sentence) => text("li", sentence)));
    byId("problems").hidden = sentences.length === 0;
  }

  async #command(what, version) {
    const told = byId("commanded");
    told.textContent = "…";
    try {
      const token = byId("operator-token").value;
      const done = await ask("web/models", { what, ...(version && { version }) }, { "Liverank-Operator": token });
      told.textContent = `${done.version} is ${done.stage ?? "promoted"}; workers go along with it.`;
    } catch (problem) {
      told.textContent = problem.message;
    }
  }
}

/** Replace what a place holds; where a button in it had the focus, the same one has it again. */
function keepingFocus(place, made) {
  const label = place.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  place.replaceChildren(made);
  if (label !== null) place.querySelector(`[aria-label="${CSS.escape(label)}"]`)?.focus({ preventScroll: true });
}

/** How long ago a version was made, which its name says too. The starter's is a year in which nothing had happened. */
function age(version, created) {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})-/.exec(version ?? "")?.slice(1).map(Number);
  const made = created ?? (parts && Date.UTC(parts[0], parts[1] - 1, ...parts.slice(2)));
  if (!made) return "–";
  return made <= STARTER_MS ? "starter, of the package" : `${span(Math.max(0, Date.now() - made) / 1000)} ago`;
}

function text(name, content, kind = "") {
  const made = document.createElement(name);
  made.textContent = content;
  if (kind) made.className = kind;
  return made;
}

function code(content) {
  return text("code", content);
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** Names and values, under a heading. */
function describe(id, rows) {
  byId(id).replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const dd = document.createElement("dd");
      dd.append(...[value].flat());
      return [text("dt", name), dd];
    }),
  );
}

/** A table, or a sentence where it has no rows. A cell is a text or an element. */
function table(head, rows, none) {
  if (rows.length === 0) return text("p", none, "faint");
  const made = document.createElement("table");
  const cells = (row, name, of) => of.map((one) => {
    const cell = one === "" && name === "th" ? document.createElement("td") : document.createElement(name);
    if (name === "th" && one !== "") cell.scope = "col";
    cell.append(one);
    row.append(cell);
    return cell;
  });
  cells(made.createTHead().insertRow(), "th", head);
  const body = made.createTBody();
  for (const row of rows) cells(body.insertRow(), "td", row);
  return made;
}

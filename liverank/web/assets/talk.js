// How the page talks to its server: questions with an answer, and streams that come back by themselves.

const FIRST_MS = 500;
const LONGEST_MS = 4000;

/** What went wrong with a question: the status, 0 where nobody answered, and the server's sentence. */
export class Problem extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Ask once; with a body it is a POST of JSON. Paths are relative, so the page may lie under any prefix. */
export async function ask(path, body, headers = {}) {
  const options = { cache: "no-store", headers };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", ...headers };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem(0, "The server of this page does not answer.");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, found.error ?? `The server answers ${answer.status}.`);
  return found;
}

/**
 * Follow a stream of server-sent events, and open it again whenever it breaks: `EventSource` itself gives up where a
 * server that starts answers with an error.
 *
 * `heard` has a function for each event's name, `told` hears true and false as the stream comes and goes.
 * Returns what ends it.
 */
export function follow(path, heard, told) {
  let source;
  let timer;
  let wait = FIRST_MS;
  const open = () => {
    source = new EventSource(path);
    source.onopen = () => {
      wait = FIRST_MS;
      told(true);
    };
    source.onerror = () => {
      source.close();
      told(false);
      timer = setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST_MS);
    };
    for (const [name, take] of Object.entries(heard)) {
      source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    }
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

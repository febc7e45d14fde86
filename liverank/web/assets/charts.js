// Small charts in SVG, drawn here: a line of the last minutes, and intervals around zero.

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 160;
const HEIGHT = 44;
const EDGE = 3;

function shape(name, attributes) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/**
 * A line of numbers over time, from 0 or the smallest to the largest; null is a gap.
 *
 * `points` are [milliseconds, number or null], `what` says in words what is drawn.
 */
export function line(points, what) {
  const svg = shape("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "line", role: "img", preserveAspectRatio: "none",
  });
  const known = points.filter(([, value]) => value !== null);
  if (known.length < 2) {
    svg.setAttribute("aria-label", `${what}: too little is known for a line yet`);
    return svg;
  }
  const [begin, end] = [points[0][0], points.at(-1)[0]];
  const top = Math.max(...known.map(([, value]) => value)) || 1;
  const x = (at) => EDGE + ((WIDTH - 2 * EDGE) * (at - begin)) / Math.max(end - begin, 1);
  const y = (value) => HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * value) / top;
  for (const part of parts(points)) {
    const way = part.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const [first, last] = [x(part[0][0]).toFixed(1), x(part.at(-1)[0]).toFixed(1)];
    svg.append(
      shape("polygon", { points: `${first},${HEIGHT} ${way.join(" ")} ${last},${HEIGHT}`, class: "area" }),
      shape("polyline", { points: way.join(" "), class: "stroke" }),
    );
  }
  const seconds = Math.round((end - begin) / 1000);
  svg.setAttribute("aria-label", `${what}, the last ${seconds} seconds, up to ${short(top)}`);
  return svg;
}

/** The runs of a line between its gaps. */
function parts(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((part) => part.length > 0);
}

/** A difference with its bounds on a scale around zero, which is marked. All three lie between -1 and 1. */
export function interval(difference, low, high, what) {
  const reach = Math.max(Math.abs(low), Math.abs(high), 0.01);
  const x = (value) => (WIDTH / 2) * (1 + (0.92 * value) / reach);
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} 24`, class: "interval", role: "img" });
  svg.setAttribute("aria-label", `${what}: ${signed(difference)}, certainly between ${signed(low)} and ${signed(high)}`);
  svg.append(
    shape("line", { x1: WIDTH / 2, x2: WIDTH / 2, y1: 2, y2: 22, class: "zero" }),
    shape("line", { x1: x(low), x2: x(high), y1: 12, y2: 12, class: "bounds" }),
    shape("circle", { cx: x(difference), cy: 12, r: 4, class: "dot" }),
  );
  return svg;
}

/** A number in few digits. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(value !== 0 && Math.abs(value) < 1 ? 2 : 3)).toString();
}

/** A number with its sign. */
export function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** A span of seconds as a person says it. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

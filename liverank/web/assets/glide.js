// A list's children glide to their new places: where each was is measured, the order changed, and the way between
// played back (first, last, invert, play). Who asks for less motion sees the new order at once.

const MS = 450;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Have `change` re-order the children of `list`; what had the focus keeps it. */
export function glide(list, change) {
  const before = new Map([...list.children].map((child) => [child, child.getBoundingClientRect().top]));
  const focused = document.activeElement;
  for (const child of list.children) for (const one of child.getAnimations()) one.cancel();
  change();
  if (list.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
  if (still.matches) return;
  for (const child of list.children) {
    if (!before.has(child)) continue;
    const moved = before.get(child) - child.getBoundingClientRect().top;
    if (Math.abs(moved) < 1) continue;
    child.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], {
      duration: MS,
      easing: "cubic-bezier(0.2, 0.7, 0.2, 1)",
    });
  }
}

// Finds words in the transcript: dims the entries without them, and Enter goes from one to the next.

const place = document.getElementById("transcript");
const box = document.getElementById("search");
const query = document.getElementById("query");
const count = document.getElementById("found");
const highlight = globalThis.Highlight && CSS.highlights ? new Highlight() : null;
if (highlight) CSS.highlights.set("found", highlight);

let hits = [];
let current = -1;

export function startSearch() {
  query.addEventListener("input", () => find());
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      query.value = "";
      find();
    }
  });
  place.addEventListener("change", () => {
    box.hidden = false;
    if (query.value) find(false);
  });
}

function find(afresh = true) {
  const wanted = query.value.trim().toLocaleLowerCase();
  hits = [];
  highlight?.clear();
  for (const entry of place.querySelectorAll("li.entry")) {
    const found = wanted ? mark(entry.querySelector(".words"), wanted) : 0;
    entry.classList.toggle("dim", Boolean(wanted) && !found);
    entry.classList.remove("current");
    if (found) hits.push(entry);
  }
  if (afresh || current >= hits.length) current = -1;
  show(wanted);
}

/** Highlights what is wanted in an element's text; how often it was found. */
function mark(element, wanted) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const nodes = [];
  let text = "";
  while (walker.nextNode()) {
    nodes.push([text.length, walker.currentNode]);
    text += walker.currentNode.data;
  }
  text = text.toLocaleLowerCase();
  let found = 0;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length), found++) {
    const range = new Range();
    range.setStart(...pointAt(nodes, at));
    range.setEnd(...pointAt(nodes, at + wanted.length));
    highlight?.add(range);
  }
  return found;
}

function pointAt(nodes, at) {
  const [first, node] = nodes.findLast(([start]) => start < at) ?? nodes[0];
  return [node, Math.min(at - first, node.length)];
}

function go(step) {
  if (!hits.length) return;
  hits[current]?.classList.remove("current");
  current = (current + step + hits.length) % hits.length;
  hits[current].classList.add("current");
  hits[current].scrollIntoView({block: "nearest"});
  show(query.value);
}

function show(wanted) {
  if (!wanted) count.textContent = "";
  else if (!hits.length) count.textContent = "nothing found";
  else count.textContent = current < 0 ? `in ${hits.length}` : `${current + 1} of ${hits.length}`;
}

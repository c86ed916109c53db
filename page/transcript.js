// What was said: one part for the microphone, one for each file.

import {SPEAKERS, clock, confidence, toJson, toSrt, toText} from "./exports.js";

const UNSURE = 0.3;
const ANNOUNCED = 3;
const BOTTOM_PIXELS = 120;

const place = document.getElementById("transcript");
const spoken = document.getElementById("spoken");
const template = document.getElementById("part-template");

/** Text for screen readers: what was just said, and no partials. */
export function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  spoken.append(line);
  while (spoken.childElementCount > ANNOUNCED) spoken.firstElementChild.remove();
}

/** Runs a change of the page; a reader who is at the end stays there. */
function keepingEnd(change) {
  const root = document.documentElement;
  const atEnd = root.scrollHeight - root.clientHeight - root.scrollTop < BOTTOM_PIXELS;
  change();
  if (atEnd) root.scrollTop = root.scrollHeight;
}

export class Part {
  constructor(title) {
    this.title = title;
    this.created = new Date().toISOString();
    this.segments = [];
    this.entries = new Map();
    this.partials = new Map();
    this.element = template.content.firstElementChild.cloneNode(true);
    this.list = this.element.querySelector("ol");
    this.heading = this.element.querySelector("h2");
    this.heading.textContent = title;
    this.progress = this.element.querySelector(".progress");
    for (const button of this.element.querySelectorAll("[data-action]")) {
      button.setAttribute("aria-label", `${LABELS[button.dataset.action]}: ${title}`);
      button.disabled = true;
      button.addEventListener("click", () => this.#act(button));
    }
    keepingEnd(() => place.append(this.element));
  }

  /** Adds a final; `segment.key` names it. */
  add(segment, {speakers = false, provisional = false, latencyMs = null} = {}) {
    const {key, ...kept} = segment;
    const entry = entryOf(segment, speakers, latencyMs);
    entry.classList.toggle("provisional", provisional);
    this.segments.push(kept);
    this.entries.set(key, {entry, kept});
    keepingEnd(() => {
      this.list.append(entry);
      this.setPartial(null, segment.channel ?? 0);
    });
    this.#offer();
    place.dispatchEvent(new CustomEvent("change"));
  }

  remove(key) {
    const found = this.entries.get(key);
    if (!found) return;
    found.entry.remove();
    this.entries.delete(key);
    this.segments = this.segments.filter((each) => each !== found.kept);
    this.#offer();
  }

  note(text) {
    const line = document.createElement("li");
    line.className = "note";
    line.textContent = text;
    keepingEnd(() => this.list.append(line));
  }

  /** Shows a row for each channel in which its partial grows; 0 takes them away. */
  showPartials(channels) {
    this.partials.clear();
    const rows = Array.from({length: channels}, (_, channel) => {
      const entry = emptyEntry(channel, channels > 1);
      entry.classList.add("partial");
      this.partials.set(channel, entry);
      return entry;
    });
    keepingEnd(() => this.element.querySelector(".partials").replaceChildren(...rows));
  }

  /** The partial of a channel: text, stable_chars and startMs; null: none. */
  setPartial(partial, channel) {
    const entry = this.partials.get(channel);
    if (!entry) return;
    const [time, text] = [entry.querySelector(".time"), entry.querySelector(".words")];
    keepingEnd(() => {
      time.textContent = partial?.startMs == null ? "" : clock(partial.startMs);
      const characters = [...(partial?.text ?? "")];
      const stable = document.createElement("span");
      stable.className = "stable";
      stable.textContent = characters.slice(0, partial?.stable_chars ?? 0).join("");
      text.replaceChildren(stable, characters.slice(partial?.stable_chars ?? 0).join(""));
    });
  }

  /** A bar and a text beside the title; null: it is done. `onCancel` for the button. */
  setProgress(part, text = "", onCancel = null) {
    this.progress.hidden = part === null;
    const bar = this.progress.querySelector("progress");
    if (part === undefined) bar.removeAttribute("value");
    else if (part !== null) bar.value = part;
    bar.setAttribute("aria-label", `Progress: ${this.title}`);
    this.progress.querySelector("span").textContent = text;
    if (onCancel) this.progress.querySelector("button").onclick = onCancel;
  }

  #offer() {
    for (const button of this.element.querySelectorAll("[data-action]")) button.disabled = !this.segments.length;
  }

  async #act(button) {
    const {action} = button.dataset;
    const content = {copy: toText, txt: toText, srt: toSrt, json: (all) => toJson(all, this)}[action](this.segments);
    if (action !== "copy") return download(content, `${this.title.replace(/\.\w{2,4}$/, "")}.${action}`);
    const copied = await copy(content);
    const label = button.textContent;
    button.textContent = copied ? "Copied" : "Not copied";
    announce(button.textContent);
    setTimeout(() => (button.textContent = label), 1500);
  }
}

const LABELS = {copy: "Copy", txt: "Download text", srt: "Download SRT subtitles", json: "Download JSON"};

function emptyEntry(channel, named, tag = "div") {
  const entry = document.createElement(tag);
  entry.className = "entry";
  entry.dataset.channel = channel;
  entry.append(element("span", "time"), element("div", "text"), element("span", "facts"));
  const text = entry.querySelector(".text");
  text.classList.toggle("named", named);
  text.dir = "auto";
  if (named) text.append(element("span", "speaker", SPEAKERS[channel] ?? `Channel ${channel + 1}`));
  text.append(element("span", "words"));
  return entry;
}

function entryOf(segment, speakers, latencyMs) {
  const entry = emptyEntry(segment.channel ?? 0, speakers, "li");
  entry.querySelector(".time").textContent = clock(segment.start_ms);
  const text = entry.querySelector(".words");
  text.append(...pieces(segment));
  if (segment.language && segment.language !== "auto") text.lang = segment.language;
  const sure = confidence(segment);
  const facts = entry.querySelector(".facts");
  if (sure !== null) facts.append(fact(`${Math.round(sure * 100)} %`, "Confidence"));
  if (latencyMs !== null) facts.append(fact(`${(latencyMs / 1000).toFixed(2)} s`, "Delay from the end of the utterance to its text"));
  return entry;
}

/** The text, with the words marked of which the engine is unsure. */
function pieces({text, words}) {
  const found = [];
  let at = 0;
  for (const {word, confidence: sure} of words ?? []) {
    const begin = text.indexOf(word, at);
    if (sure >= UNSURE || begin < 0) continue;
    const mark = element("span", "unsure", word);
    mark.title = `${Math.round(sure * 100)} % sure`;
    found.push(text.slice(at, begin), mark);
    at = begin + word.length;
  }
  return [...found, text.slice(at)];
}

function fact(text, title) {
  const span = element("span", "", text);
  span.title = title;
  return span;
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Outside HTTPS there is only the old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function download(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], {type: "text/plain"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

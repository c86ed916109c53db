// Wires the page: the microphone and files in, the transcript out.

import {Access, KeyNeeded} from "./access.js";
import {SPEAKERS, clock} from "./exports.js";
import {transcribe} from "./files.js";
import {setLevel, showMeters} from "./meters.js";
import {Microphone, MicrophoneRefused} from "./microphone.js";
import {startSearch} from "./search.js";
import {Session} from "./session.js";
import {Part, announce} from "./transcript.js";

const LANGUAGES = "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht "
  + "hu hy id is it ja jv ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd "
  + "si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh";
const UNNAMED = {ba: "Bashkir", bo: "Tibetan"}; // by Chromium

const $ = (id) => document.getElementById(id);
const [record, state, language, stereo] = [$("record"), $("state"), $("language"), $("stereo")];
const title = document.title;
const access = new Access();

let recording = null;
let starting = false;
let spokenPart = null;
let spokenMs = 0;
let recordings = 0;
let retry = null; // what to do again with a key
const files = [];
let filesRun = false;

function notify(message, help = "") {
  const lines = [message, help].filter(Boolean).map((text) => {
    const line = document.createElement("p");
    line.textContent = text;
    return line;
  });
  $("notice").replaceChildren(...lines);
}

function askKey(message, again) {
  retry = again;
  if (message !== "key") notify(message);
  $("key").hidden = false;
  $("secret").focus();
}

// The microphone

class Recording {
  static async start() {
    const channels = stereo.checked ? 2 : 1;
    const early = [];
    let one = null;
    const microphone = await Microphone.open(
      channels,
      (samples) => (one ? one.session.write(samples) : early.push(samples)),
      () => one?.stop("The microphone was disconnected."),
    );
    one = new Recording(microphone, channels);
    for (const samples of early) one.session.write(samples);
    return one;
  }

  constructor(microphone, channels) {
    this.microphone = microphone;
    this.channels = channels;
    this.number = ++recordings;
    this.offsetMs = spokenMs;
    this.starts = [];
    spokenPart ??= new Part("Microphone");
    spokenPart.showPartials(channels);
    showMeters(channels > 1 ? SPEAKERS : [""]);
    this.session = new Session({
      rate: microphone.rate, channels, language: language.value, offsetMs: spokenMs, access,
      on: {
        state: (text, connected) => this.#state(text, connected),
        message: (message) => this.#take(message, message.channel ?? 0),
        retract: (channel, segment) => spokenPart.remove(this.#key(channel, segment)),
        lost: (ms) => spokenPart.note(`${(ms / 1000).toFixed(1)} s were lost while there was no connection.`),
        end: (error) => this.#ended(error),
      },
    });
    this.tick = setInterval(() => ($("clock").textContent = clock(this.#nowMs)), 250);
    navigator.wakeLock?.request("screen").then((lock) => (this.lock = lock), () => {});
  }

  get #nowMs() {
    return this.offsetMs + (this.session.written * 1000) / this.microphone.rate;
  }

  #key(channel, segment) {
    return `${this.number}/${channel}/${segment}`;
  }

  #state(text, connected) {
    state.textContent = connected && this.stopping ? "Finishing" : text;
    if (!connected) this.#showSilence();
  }

  #showSilence() {
    for (let channel = 0; channel < this.channels; channel++) setLevel({rms: 0, voiced: false}, channel);
  }

  #take(message, channel) {
    switch (message.type) {
      case "level":
        return this.stopping ? undefined : setLevel(message, channel);
      case "speech_started":
        this.starts[channel] = message.start_ms;
        return undefined;
      case "partial":
        return spokenPart.setPartial({...message, startMs: this.starts[channel]}, channel);
      case "final":
        return this.#final(message, channel);
      case "warning":
        return spokenPart.note(message.message);
    }
    return undefined;
  }

  #final(message, channel) {
    const {text, start_ms, end_ms, words, language: spoken, provisional} = message;
    if (!text) return spokenPart.setPartial(null, channel);
    const segment = {key: this.#key(channel, message.segment), text, start_ms, end_ms, language: spoken, words};
    if (this.channels > 1) segment.channel = channel;
    const latencyMs = message.latency_ms;
    spokenPart.add(segment, {speakers: this.channels > 1, provisional, latencyMs});
    if (!provisional) announce(this.channels > 1 ? `${SPEAKERS[channel]}: ${text}` : text);
    $("delay").textContent = message.first_token_ms ? `first words in ${(message.first_token_ms / 1000).toFixed(1)} s` : "";
    return undefined;
  }

  /** Stops the microphone and waits for the last words; a second call ends at once. */
  async stop(reason = "") {
    if (reason) notify(reason);
    if (this.stopping) return this.session.abort();
    this.stopping = true;
    state.textContent = "Finishing";
    this.#showSilence();
    await this.microphone.stop();
    this.session.finish();
    return undefined;
  }

  async #ended(error) {
    clearInterval(this.tick);
    spokenMs = this.#nowMs;
    this.lock?.release();
    await this.microphone.stop();
    spokenPart.showPartials(0);
    setRecording(null);
    if (error?.key) askKey(error.message, toggle);
    else if (error) notify(error.message);
  }
}

function setRecording(one) {
  recording = one;
  starting = false;
  record.setAttribute("aria-pressed", String(one !== null));
  language.disabled = stereo.disabled = one !== null;
  document.title = one ? `● ${title}` : title;
  if (!one) state.textContent = "Ready";
  $("empty").hidden ||= one !== null;
}

async function toggle() {
  if (recording) return recording.stop();
  if (starting) return undefined;
  starting = true;
  notify("");
  state.textContent = "Starting";
  try {
    setRecording(await Recording.start());
  } catch (error) {
    setRecording(null);
    notify(error instanceof MicrophoneRefused ? error.message : `The microphone cannot be used: ${error.message}`, error.help);
  }
  return undefined;
}

// Files

function addFiles(chosen) {
  for (const file of chosen) {
    const part = new Part(file.name);
    $("empty").hidden = true;
    const cancel = new AbortController();
    part.setProgress(0, "Waiting", () => cancel.abort(new Error("Cancelled.")));
    files.push({file, part, signal: cancel.signal});
  }
  if (!filesRun) runFiles();
}

/** One after another: two would only slow each other down. */
async function runFiles() {
  filesRun = true;
  for (let job = files.shift(); job; job = files.shift()) {
    try {
      await runFile(job);
    } catch (error) {
      if (error instanceof KeyNeeded) {
        files.unshift(job);
        job.part.setProgress(0, "Waiting");
        askKey(error.message, runFiles);
        break;
      }
      job.part.note(error.message);
    }
    job.part.setProgress(null);
  }
  filesRun = false;
}

async function runFile({file, part, signal}) {
  signal.throwIfAborted();
  const onUpload = (sent) =>
    (sent < 1 ? part.setProgress(sent, `Sending ${Math.round(100 * sent)} %`) : part.setProgress(undefined, "Transcribing"));
  const onEvent = ({type, position_ms: position, ...segment}) => {
    if (type === "progress") part.setProgress(undefined, `Transcribing, ${clock(position)}`);
    else if (type === "segment") part.add({key: part.segments.length, ...segment}, {speakers: segment.channel !== undefined});
  };
  const answer = await transcribe(file, {language: language.value, split: stereo.checked, access, signal, onUpload, onEvent});
  for (const {message} of answer.warnings) part.note(message);
  if (!answer.segments.length) part.note("No words were recognised.");
  announce(`${file.name}: ${answer.text}`);
}

function startDropping() {
  let depth = 0;
  const isFile = ({dataTransfer}) => dataTransfer.types.includes("Files");
  const show = (shown) => ($("drop").hidden = !shown);
  addEventListener("dragenter", (event) => isFile(event) && show(++depth));
  addEventListener("dragleave", (event) => isFile(event) && show(--depth));
  addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    show(depth = 0);
    addFiles(event.dataTransfer.files);
  });
}

// The server

async function readFacts() {
  const answer = await fetch("page/server.json").catch(() => null);
  const {backend, languages} = answer?.ok ? await answer.json() : {};
  $("server").textContent = backend ?? "not reachable";
  const names = new Intl.DisplayNames(["en"], {type: "language"});
  const options = (languages ?? LANGUAGES.split(" ")).map((code) => new Option(UNNAMED[code] ?? names.of(code), code));
  options.sort((one, other) => one.text.localeCompare(other.text));
  language.append(...options);
}

record.addEventListener("click", toggle);
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({target}) => {
  addFiles(target.files);
  target.value = "";
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  access.useKey($("secret").value);
  $("key").hidden = true;
  notify("");
  retry?.();
});
addEventListener("beforeunload", (event) => recording && event.preventDefault());
showMeters([""]);
startSearch();
startDropping();
readFacts();

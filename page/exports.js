// Segments as text, subtitles and JSON. A segment: text, start_ms, end_ms, and perhaps words, channel, language.

const LINE_CHARACTERS = 42;
const CUE_LINES = 2;
const CUE_MS = 7000;

export const SPEAKERS = ["Left", "Right"];

/** Mean confidence of the words, 0 to 1; null if there are none. */
export function confidence({words}) {
  if (!words?.length) return null;
  return words.reduce((sum, word) => sum + word.confidence, 0) / words.length;
}

/** 3:07, or 1:03:07. */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

export function toText(segments) {
  return segments.map((each) => `${speaker(each, segments)}${each.text}\n`).join("");
}

export function toJson(segments, {title, created}) {
  return `${JSON.stringify({title, created, segments}, null, 2)}\n`;
}

/** SubRip: at most two lines of 42 characters, never cut inside a word, timed by the words where they have times. */
export function toSrt(segments) {
  const cues = segments.flatMap((each) => cuesOf(each, speaker(each, segments)));
  cues.sort((one, other) => one.start - other.start);
  return cues.map(({start, end, lines}, index) =>
    `${index + 1}\n${srtTime(start)} --> ${srtTime(end)}\n${lines.join("\n")}\n`).join("\n");
}

function speaker({channel}, segments) {
  return segments.some((each) => each.channel) ? `${SPEAKERS[channel ?? 0] ?? `Channel ${channel + 1}`}: ` : "";
}

function cuesOf(segment, prefix) {
  const cues = [];
  let cue = null;
  for (const {word, start_ms: start, end_ms: end} of timedWords(segment)) {
    const lines = cue && end - cue.start <= CUE_MS ? withWord(cue.lines, word) : null;
    if (lines) Object.assign(cue, {lines, end});
    else cues.push(cue = {start, end, lines: withWord([prefix.trimEnd()], word) ?? [prefix + word]});
  }
  return cues;
}

/** The lines with one more word; null: it does not fit. */
function withWord(lines, word) {
  const last = lines.at(-1);
  const joined = last && !isUnspaced(word) ? `${last} ${word}` : `${last}${word}`;
  if (joined.length <= LINE_CHARACTERS || !last) return [...lines.slice(0, -1), joined];
  return lines.length < CUE_LINES ? [...lines, word] : null;
}

/** The words with times; where the engine gives none, the segment's time in proportion to their letters. */
function timedWords({text, words, start_ms: start, end_ms: end}) {
  if (words?.length) return words;
  const pieces = [...new Intl.Segmenter(undefined, {granularity: "word"}).segment(text)].reduce((found, {segment}) => {
    // Punctuation stays with the word before it, and a space begins the next.
    if (/^\s+$/.test(segment)) found.push("");
    else if (found.at(-1) === "" || !found.length) found.splice(-1, 1, segment);
    else if (isUnspaced(segment)) found.push(segment);
    else found[found.length - 1] += segment;
    return found;
  }, []).filter(Boolean);
  const letters = pieces.reduce((sum, piece) => sum + piece.length, 0);
  let said = 0;
  return pieces.map((word) => {
    const begin = start + ((end - start) * said) / letters;
    said += word.length;
    return {word, start_ms: Math.round(begin), end_ms: Math.round(start + ((end - start) * said) / letters)};
  });
}

function isUnspaced(word) {
  return /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u.test(word);
}

function srtTime(ms) {
  return new Date(Math.max(0, Math.round(ms))).toISOString().slice(11, 23).replace(".", ",");
}

// Loudness, the threshold and the detector's decision, as the server reports them.

const LEAST_DB = -70;
const FULL_SCALE = 32768;

const place = document.getElementById("meters");
const template = document.getElementById("meter-template");

/** One meter a channel. */
export function showMeters(names) {
  place.replaceChildren(...names.map((name) => {
    const meter = template.content.firstElementChild.cloneNode(true);
    meter.querySelector(".name").textContent = name;
    meter.setAttribute("aria-label", name ? `Loudness ${name}` : "Loudness");
    update(meter, {rms: 0, voiced: false});
    return meter;
  }));
}

/** Shows a `level` message; {rms: 0, voiced: false}: silence. */
export function setLevel(level) {
  const meter = place.children[level.channel ?? 0];
  if (meter) update(meter, level);
}

function update(meter, {rms, threshold, voiced}) {
  const loudness = decibels(rms);
  meter.classList.toggle("voiced", voiced);
  meter.classList.toggle("measured", threshold !== undefined);
  meter.querySelector(".fill").style.clipPath = `inset(0 ${100 - percent(loudness)}% 0 0 round 999px)`;
  if (threshold !== undefined) {
    meter.querySelector(".threshold").style.left = `${percent(decibels(threshold))}%`;
    meter.title = `Voice begins at the mark, ${Math.round(decibels(threshold))} dB`;
  }
  meter.setAttribute("aria-valuenow", Math.round(loudness));
  meter.setAttribute("aria-valuetext", `${Math.round(loudness)} decibels, ${voiced ? "voice" : "no voice"}`);
}

function decibels(rms) {
  return Math.max(LEAST_DB, 20 * Math.log10(Math.max(rms, 1e-6) / FULL_SCALE));
}

function percent(loudness) {
  return (100 * (loudness - LEAST_DB)) / -LEAST_DB;
}

// A file's text over HTTP.

import {KeyNeeded} from "./access.js";

/**
 * Transcribes a file. `onUpload` gets the part that is sent, 0 to 1. `signal` cancels.
 * Resolves to the server's answer: text, language, duration_ms, segments, warnings.
 */
export async function transcribe(file, {language, split, access, signal, onUpload}) {
  const token = await access.token();
  const query = new URLSearchParams({language, words: true});
  if (split) query.set("channel_mode", "split");
  const form = new FormData();
  form.append("file", file);
  return new Promise((resolve, reject) => {
    // fetch does not tell how much of a body is sent.
    const request = new XMLHttpRequest();
    request.open("POST", `v1/stt/transcribe?${query}`);
    if (token) request.setRequestHeader("authorization", `Bearer ${token}`);
    request.upload.onprogress = ({loaded, total}) => onUpload(total ? loaded / total : 0);
    request.upload.onload = () => onUpload(1);
    request.onload = () => (request.status === 200 ? resolve(JSON.parse(request.responseText)) : reject(refusal(request)));
    request.onerror = () => reject(new Error("The connection was lost."));
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function refusal({status, responseText}) {
  if (status === 401) return new KeyNeeded("key");
  try {
    return new Error(`The server refused it: ${JSON.parse(responseText).message}.`);
  } catch {
    return new Error(status === 413 ? "It is too large for the proxy in between." : `The server answered ${status}.`);
  }
}

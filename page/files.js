// A file's text over HTTP.

import {KeyNeeded} from "./access.js";

/**
 * Transcribes a file. `onUpload` gets the part that is sent, 0 to 1; `onEvent` what the server reports meanwhile: its
 * types are `segment` and `progress`. `signal` cancels. Resolves to the whole: text, language, segments, warnings.
 */
export async function transcribe(file, {language, split, access, signal, onUpload, onEvent}) {
  const token = await access.token();
  const query = new URLSearchParams({language, words: true, stream: true});
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
    let read = 0;
    const take = () => {
      if (request.status !== 200) return;
      const events = request.responseText.slice(read).split("\n\n").slice(0, -1);
      for (const text of events) {
        read += text.length + 2;
        if (!text.startsWith("data: ")) continue;
        const event = JSON.parse(text.slice(6));
        if (event.type === "transcript") resolve(event);
        else if (event.type === "error") reject(new Error(`The server failed: ${event.message}.`));
        else onEvent(event);
      }
    };
    request.onprogress = take;
    request.onload = () => {
      take();
      reject(request.status === 200 ? new Error("The answer is not complete.") : refusal(request));
    };
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

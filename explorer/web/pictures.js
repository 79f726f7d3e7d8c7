// Pictures and files from the server's plain routes.

import { ask } from "./store.js";
import { el } from "./dom.js";

export function loadPicture(url) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("This is no picture."));
    picture.src = url.href ?? url;
  });
}

/** Save what a route answers under the name that it gives, or throw the sentence with which it refuses. */
export async function download(path, query) {
  const response = await ask(path, { query });
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "download";
  const link = el("a", { href: URL.createObjectURL(await response.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

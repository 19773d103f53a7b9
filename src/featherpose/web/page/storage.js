/** The browser's storage, which it may forbid: then nothing is remembered and everything else works. */

export function recall(storageName, key) {
  try {
    return window[storageName].getItem(key);
  } catch {
    return null;
  }
}

export function remember(storageName, key, value) {
  try {
    window[storageName].setItem(key, value);
  } catch {
    // Forbidden or full.
  }
}

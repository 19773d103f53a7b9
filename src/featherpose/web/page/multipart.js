/** The parts of a multipart/x-mixed-replace answer, as they arrive. */

const CRLF2 = [13, 10, 13, 10];
const LONGEST_HEAD = 16_384;

/**
 * @param {Response} response
 * @yields {{headers: Map<string, string>, body: Uint8Array}} Header names in lower case.
 */
export async function* parts(response) {
  const reader = response.body.getReader();
  let bytes = new Uint8Array(0);
  const more = async () => {
    const { done, value } = await reader.read();
    if (done) return false;
    const joined = new Uint8Array(bytes.length + value.length);
    joined.set(bytes);
    joined.set(value, bytes.length);
    bytes = joined;
    return true;
  };
  try {
    for (;;) {
      let end;
      while ((end = indexOf(bytes, CRLF2)) < 0) {
        if (bytes.length > LONGEST_HEAD) throw new Error("this is no multipart stream");
        if (!(await more())) return;
      }
      // The boundary line stands before the headers; it has no colon and so leaves no entry.
      const lines = new TextDecoder("latin1").decode(bytes.subarray(0, end)).split("\r\n");
      const headers = new Map(lines.map((line) => line.match(/^([^:]+):\s*(.*)$/)).filter(Boolean).map(entry));
      const length = Number(headers.get("content-length"));
      if (!Number.isInteger(length) || length < 0) throw new Error("a part of the stream does not say its length");
      const start = end + CRLF2.length;
      while (bytes.length < start + length) {
        if (!(await more())) return;
      }
      const body = bytes.slice(start, start + length);
      bytes = bytes.slice(start + length);
      yield { headers, body };
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function entry([, name, value]) {
  return [name.trim().toLowerCase(), value.trim()];
}

function indexOf(bytes, pattern) {
  for (let i = bytes.indexOf(pattern[0]); i >= 0; i = bytes.indexOf(pattern[0], i + 1)) {
    if (i + pattern.length > bytes.length) return -1;
    if (pattern.every((byte, k) => bytes[i + k] === byte)) return i;
  }
  return -1;
}

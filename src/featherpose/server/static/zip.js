/** A zip file of files that are compressed already: they are stored as they are (APPNOTE.TXT 6.3, method 0). */

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const UTF8_NAMES = 0x0800;
const DATE_1980 = 0x21; // 1 January 1980, the first date that the format has

/**
 * @param {{name: string, blob: Blob}[]} files Fewer than 65,536, of less than 4 GB together.
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const bytes = new TextEncoder().encode(name);
    const check = crc32(new Uint8Array(await blob.arrayBuffer()));
    // Version, flags, method, time, date, checksum, both sizes, length of the name, of the extra field.
    const common = [[20, 2], [UTF8_NAMES, 2], [0, 2], [0, 2], [DATE_1980, 2], [check, 4], [blob.size, 4], [blob.size, 4],
      [bytes.length, 2], [0, 2]];
    const head = fields([[LOCAL, 4], ...common]);
    directory.push(fields([[CENTRAL, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), bytes);
    parts.push(head, bytes, blob);
    offset += head.length + bytes.length + blob.size;
  }
  const size = directory.reduce((total, part) => total + part.length, 0);
  const count = files.length;
  const end = fields([[END, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Little-endian bytes of [value, length in bytes]. */
function fields(list) {
  const bytes = new Uint8Array(list.reduce((total, [, length]) => total + length, 0));
  let at = 0;
  for (const [value, length] of list) {
    for (let i = 0; i < length; i += 1) bytes[at++] = Math.floor(value / 256 ** i) % 256;
  }
  return bytes;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The checksum of ISO 3309, which zip files use. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
  return (value ^ 0xffffffff) >>> 0;
}

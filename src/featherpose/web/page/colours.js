/** One colour for each id, the same as in annotated pictures and videos (featherpose.media.palette). */

// The golden ratio keeps consecutive numbers far apart on the colour wheel.
const GOLDEN = 0.618034;

/** Hue of a person or track in degrees. */
export function hue(id) {
  return 360 * ((0.08 + id * GOLDEN) % 1);
}

/** HSV (hue, 0.68, 1), which CSS writes as HSL; grey for somebody without id. */
export function personColour(id) {
  return id === null ? "hsl(0 0% 82%)" : `hsl(${hue(id).toFixed(1)} 100% 66%)`;
}

/** Ink that reads well on that colour: by luma (ITU-R BT.601) dark or white. */
export function inkOn(id) {
  return id === null || luma(hue(id)) > 0.55 ? "#12201f" : "#ffffff";
}

function luma(degrees) {
  // One channel of HSV with full value: 1 around its own hue, 1 - saturation far from it.
  const channel = (n) => {
    const k = (n + degrees / 60) % 6;
    return 1 - 0.68 * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return 0.299 * channel(5) + 0.587 * channel(3) + 0.114 * channel(1);
}

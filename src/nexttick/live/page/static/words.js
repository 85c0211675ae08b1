// Numbers and times as people read them.

export const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);
export const percent = (p, digits = 1) => `${(100 * p).toFixed(digits)} %`;
export const fixed = (x, digits) => (x === null ? "–" : x.toFixed(digits));
export const signed = (x, digits) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;

export function microseconds(us) {
  const round = (x) => (x >= 100 ? Math.round(x) : Number(x.toPrecision(2)));
  return us < 1000 ? `${round(us)} µs` : us < 1e6 ? `${round(us / 1e3)} ms` : `${round(us / 1e6)} s`;
}

export function spanText(seconds) {
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// What a chart draws: columns of a series that grow by updates, and are cut from the front.

export class Series {
  constructor(limit) {
    this.limit = limit;
    this.clear();
  }

  clear() {
    this.time = [];
    this.value = [];
    this.low = [];
    this.high = [];
    this.rest = [];
    this.breaks = new Set(); // indices before which something is missing
  }

  get length() {
    return this.time.length;
  }

  // The last point is still open: the server sends it again with what has come since.
  take(update, whole) {
    if (whole) this.clear();
    else if (update.time.length) this.pop();
    const start = this.length;
    for (const name of ["time", "value", "low", "high"]) this[name].push(...update[name]);
    update.rest.forEach((column, i) => (this.rest[i] ??= []).push(...column));
    for (const i of update.broken) this.breaks.add(start + i);
    this.cut();
  }

  pop() {
    const last = this.length - 1;
    if (last < 0) return;
    for (const column of [this.time, this.value, this.low, this.high, ...this.rest]) column.pop();
    this.breaks.delete(last);
  }

  cut() {
    const over = this.length - this.limit;
    if (over <= 0) return;
    for (const column of [this.time, this.value, this.low, this.high, ...this.rest]) column.splice(0, over);
    this.breaks = new Set([...this.breaks].map((i) => i - over).filter((i) => i > 0));
  }

  // First index to show: the last `seconds`, or more of them where that would be few points.
  from(seconds, points) {
    const since = this.time[this.length - 1] - seconds;
    let low = 0, high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time[middle] < since) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, Math.min(low, this.length - points));
  }

  // Columns from an index on, one point each `step` seconds, with a hole where something is missing.
  columns(first, names, step = 0) {
    const from = names.map((name) => (typeof name === "number" ? this.rest[name] ?? [] : this[name]));
    const to = names.map(() => []);
    let slot = null;
    for (let i = first; i < this.length; i++) {
      const broken = i > first && this.breaks.has(i);
      // Slots are counted from a fixed beginning: lines stand still while time goes on.
      const at = step > 0 ? Math.floor(this.time[i] / step) : i;
      if (broken) {
        to[0].push((this.time[i - 1] + this.time[i]) / 2);
        for (let k = 1; k < to.length; k++) to[k].push(null);
      }
      if (at === slot && !broken) merge(to, from, names, i);
      else for (let k = 0; k < to.length; k++) to[k].push(from[k][i] ?? null);
      slot = at;
    }
    return to;
  }
}

function merge(to, from, names, i) {
  const last = to[0].length - 1;
  names.forEach((name, k) => {
    const [was, is] = [to[k][last], from[k][i] ?? null];
    if (name === "low" && was !== null) to[k][last] = Math.min(was, is ?? was);
    else if (name === "high" && was !== null) to[k][last] = Math.max(was, is ?? was);
    else to[k][last] = is;
  });
}

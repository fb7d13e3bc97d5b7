// Between the scenarios' JSON and JavaScript values: see tests/scenarios/README.md.

/** The tag of an object such as `{"$decimal": "1.50"}` and what it holds. */
export function tagged(value: unknown): [string, unknown] | undefined {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return undefined;
  const entries = Object.entries(value) as [string, unknown][];
  const [name, inner] = entries[0] ?? ["", undefined];
  return entries.length === 1 && name.startsWith("$") ? [name.slice(1), inner] : undefined;
}

const decoders: Record<string, (inner: never) => unknown> = {
  repeat: ([text, times]: [string, number]) => text.repeat(times),
  int: (text: string) => BigInt(text),
  float: (text: string) => Number(text),
  // Decimals, dates and times of day have no type of their own in JavaScript: text is the exact form.
  decimal: (text: string) => text,
  date: (text: string) => text,
  time: (text: string) => text,
  uuid: (text: string) => text,
  bytes: (text: string) => Buffer.from(text, "hex"),
  timestamp: (text: string) => text,
  timestamptz: (text: string) => text,
  json: (value: unknown) => value,
};

/** The JavaScript value that a scenario writes. */
export function decode(value: unknown): unknown {
  const tag = tagged(value);
  if (tag) {
    const decoder = decoders[tag[0]];
    if (!decoder) throw new Error(`unknown tag $${tag[0]}`);
    return decoder(tag[1] as never);
  }
  return Array.isArray(value) ? value.map(decode) : value;
}

/** Equal as the scenario means it; integers come as number or bigint by the width of their column. */
export function same(got: unknown, expected: unknown): boolean {
  const wanted = decode(expected);
  const tag = tagged(expected)?.[0];
  if (tag === "timestamp" || tag === "timestamptz") return sameInstant(got, String(wanted));
  if (typeof wanted === "bigint")
    return (typeof got === "bigint" || Number.isInteger(got)) && BigInt(got as number) === wanted;
  if (typeof wanted === "number" && typeof got === "bigint") return Number.isInteger(wanted) && BigInt(wanted) === got;
  if (Buffer.isBuffer(wanted)) return got instanceof Uint8Array && wanted.equals(got);
  if (Array.isArray(wanted)) {
    return (
      Array.isArray(got) &&
      got.length === wanted.length &&
      got.every((item, index) => same(item, (expected as unknown[])[index]))
    );
  }
  if (wanted !== null && typeof wanted === "object") {
    if (got === null || typeof got !== "object") return false;
    const keys = Object.keys(wanted);
    return (
      Object.keys(got).length === keys.length &&
      keys.every((key) => key in got && same((got as never)[key], (wanted as never)[key]))
    );
  }
  return Object.is(got, wanted);
}

/** A Date holds milliseconds: the finer digits are what `timestamps: "string"` is for. */
function sameInstant(got: unknown, text: string): boolean {
  const utc = text.endsWith("Z") ? text : `${text}Z`;
  return got instanceof Date && got.getTime() === Date.parse(utc.replace(/(\.\d{3})\d*/, "$1"));
}

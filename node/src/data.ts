// What may be cached, and texts that must reach native code unchanged.

import { types } from "node:util";

import { TaskError } from "./errors";

/** Anything that `JSON.stringify` keeps. */
export type JsonValue =
  string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue | undefined };

/**
 * What can be cached: bytes, text (kept as UTF-8), or anything JSON-serialisable (kept as JSON text, with the rules of
 * `JSON.stringify`). A `bigint` inside is refused, since JSON cannot hold it exactly.
 */

export type Data = Uint8Array | string | JsonValue | object;

/** @internal Bytes or text of cached data; `null` for null, which only writes with a task allow. */
export function encodeData(data: unknown): Uint8Array | string | null {
  if (data === null) return null;
  if (typeof data === "string") return checkedText(data, "data");
  if (data === undefined) {
    throw new TaskError("data is undefined; give null to cache nothing");
  }
  if (types.isUint8Array(data)) return data;
  return jsonText(data, "data");
}

/** @internal The JSON text of a value; the error names the place of what JSON cannot hold. */
export function jsonText(value: unknown, name: string): string {
  const refused = refusal(value);
  if (refused) throw new TaskError(`${name} is ${refused}`);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    throw new TaskError(unserialisable(value, name), { cause });
  }
  if (text === undefined) throw new TaskError(`${name} is not JSON-serialisable (${typeof value})`);
  return text;
}

/** What JSON.stringify would silently turn into `{}` or `null`; undefined if there is nothing wrong. */
function refusal(value: unknown): string | undefined {
  if (typeof value === "bigint") return "a bigint, which JSON cannot hold; give String(value)";
  if (typeof value === "number" && !Number.isFinite(value)) return `${value}, which JSON cannot hold`;
  if (typeof value === "function" || typeof value === "symbol") return `a ${typeof value}, not a value`;
  if (typeof value !== "object" || value === null) return undefined;
  if (types.isPromise(value)) return "a Promise; await it first";
  if (types.isMap(value)) return "a Map, which JSON loses; give Object.fromEntries(map)";
  if (types.isSet(value)) return "a Set, which JSON loses; give [...set]";
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) {
    return "an ArrayBuffer or a view on one other than Uint8Array; give Buffer.from(…)";
  }
  return undefined;
}

function unserialisable(value: unknown, name: string): string {
  const path = pathOf(value, name, [], (item) => typeof item === "bigint");
  if (path) return `${path} is a bigint, which JSON cannot hold; give String(value)`;
  return `${name} is not JSON-serialisable: it contains itself, or its toJSON failed`;
}

/** The path of the first value that `wanted` finds, depth first. */
function pathOf(
  value: unknown,
  path: string,
  above: readonly unknown[],
  wanted: (value: unknown) => boolean,
): string | undefined {
  if (wanted(value)) return path;
  if (typeof value !== "object" || value === null || above.includes(value) || above.length > 100) return undefined;
  const inside = [...above, value];
  for (const [key, item] of Object.entries(value)) {
    const found = pathOf(item, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`, inside, wanted);
    if (found) return found;
  }
  return undefined;
}

/** @internal Whether UTF-8 can hold it. */
export const wellFormed = (text: string) => (text as unknown as { isWellFormed(): boolean }).isWellFormed();

/** @internal A text that UTF-8 can hold: half of a surrogate pair would be changed on the way. */
export function checkedText(text: unknown, name: string): string {
  if (typeof text !== "string") {
    const given = text === null ? "null" : Array.isArray(text) ? "an array" : typeof text;
    throw new TaskError(`${name} is a string, not ${given}`);
  }
  if (!wellFormed(text)) throw new TaskError(`${name} holds half of a surrogate pair, which UTF-8 cannot hold`);
  return text;
}

/** @internal A list of texts. */
export function checkedTexts(texts: unknown, name: string): string[] {
  if (!Array.isArray(texts)) throw new TaskError(`${name} is an array of strings, not ${typeof texts}`);
  return texts.map((text, index) => checkedText(text, `${name}[${index}]`));
}

// SQL arguments on their way in, rows on their way out.

import { types } from "node:util";

import { checkedText, jsonText, wellFormed } from "./data";
import { StoreError, TaskError } from "./errors";
import type { NativeRows, NativeValues } from "./native";

/** The marker for an argument that a prepared task is given later. */
export const bind: unique symbol = Symbol("zmsg.bind");

/** The type of {@link bind}. */
export type Bind = typeof bind;

/**
 * An SQL argument.
 *
 * | JavaScript | PostgreSQL |
 * |---|---|
 * | `null` | NULL |
 * | `boolean` | boolean |
 * | `number` | an integer if it is one (beyond ±(2⁵³−1) it is refused: give a bigint, or a string), else float |
 * | `bigint` | int8; refused if it needs more than 64 bits |
 * | `string` | text, or the column's type in its text form: numeric, uuid, date, interval … |
 * | `Buffer`, `Uint8Array` | bytea |
 * | `Date` | timestamptz |
 * | array | an array, or JSON where the column is json or jsonb |
 * | other objects | json or jsonb |
 *
 * `undefined` is always an error, because it is a typo.
 */
export type SqlValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Date
  | readonly SqlValue[]
  // Interfaces and classes have no index signature, so that a narrower type would refuse them.
  | object;

/** An argument, or {@link bind} for one that comes later. */
export type SqlArg = SqlValue | Bind;

/** @internal Arguments as native code takes them. */
export function encodeArgs(args: readonly unknown[], what: string): unknown[] {
  return args.map((arg, index) => encodeArg(arg, what, index + 1));
}

function encodeArg(arg: unknown, what: string, place: number | string): unknown {
  switch (typeof arg) {
    case "boolean":
      return arg;
    case "number":
      if (Number.isSafeInteger(arg) || !Number.isInteger(arg)) return arg;
      throw new TaskError(
        `argument ${place} of ${what} is beyond the integers that a number holds exactly; give a bigint, or a string ` +
          "for a float or numeric column",
      );
    case "bigint":
      if (BigInt.asIntN(64, arg) === arg) return arg;
      throw new TaskError(`argument ${place} of ${what} does not fit into 64 bits; give a string for a numeric column`);
    case "string":
      // The name is for the error alone, and most arguments are fine.
      return wellFormed(arg) ? arg : checkedText(arg, `argument ${place} of ${what}`);
    case "object":
      return arg === null ? null : encodeObject(arg, what, place);
    case "symbol":
      if (arg === bind) return arg;
      break;
    case "undefined":
      throw new TaskError(`argument ${place} of ${what} is undefined; give null for NULL`);
  }
  throw new TaskError(`argument ${place} of ${what} is a ${typeof arg}, which is no SQL value`);
}

function encodeObject(arg: object, what: string, place: number | string): unknown {
  if (types.isUint8Array(arg)) return { t: "bytes", v: arg };
  if (types.isDate(arg)) {
    const ms = arg.getTime();
    if (Number.isNaN(ms)) throw new TaskError(`argument ${place} of ${what} is an invalid Date`);
    return { t: "date", v: ms };
  }
  if (Array.isArray(arg)) return encodeList(arg, what, place);
  return { t: "json", v: jsonText(arg, `argument ${place} of ${what}`) };
}

const MAX_DEPTH = 64;

function encodeList(list: readonly unknown[], what: string, place: number | string): unknown[] {
  if (String(place).split("[").length > MAX_DEPTH) {
    throw new TaskError(`argument ${String(place).slice(0, 20)}… of ${what} nests deeper than ${MAX_DEPTH} lists`);
  }
  // Array.from also visits holes, which are undefined.
  return Array.from(list, (item, index) => encodeArg(item, what, `${place}[${index}]`));
}

/** How an engine wants its int8. */
export type Int8Format = "bigint" | "string" | "number";

/** One row: column name to value. */
export type Row = Record<string, unknown>;

/** @internal The row objects of native groups. */
export function decodeRows<T>(groups: readonly NativeRows[], int8: Int8Format): T[] {
  const rows: Row[] = [];
  for (const { columns, kinds, values } of groups) {
    const width = columns.length;
    for (let at = 0; at < values.length; at += width) {
      const row: Row = {};
      for (let column = 0; column < width; column++) {
        const name = columns[column] as string;
        const value = decodeValue(kinds.charCodeAt(column), values[at + column], int8, name);
        // A column may be named so by a user; assignment would set the row's prototype.
        if (name === "__proto__") Object.defineProperty(row, name, { value, enumerable: true, writable: true });
        else row[name] = value;
      }
      rows.push(row);
    }
    // A statement can return rows without columns (RETURNING nothing); they hold nothing to give.
  }
  return rows as T[];
}

/** @internal Parameters as `render` shows them. */
export function decodeParams({ kinds, values }: NativeValues): unknown[] {
  return values.map((value, index) => decodeValue(kinds.charCodeAt(index), value, "bigint", `parameter ${index + 1}`));
}

/** @internal One value, decoded as that of a column called `name`. */
export function decodeOne<T>({ kinds, values }: NativeValues, int8: Int8Format, name: string): T {
  return decodeValue(kinds.charCodeAt(0), values[0], int8, name) as T;
}

const WIDE = "w".charCodeAt(0);
const JSON_TEXT = "j".charCodeAt(0);
const TIME = "t".charCodeAt(0);

function decodeValue(kind: number, value: unknown, int8: Int8Format, column: string): unknown {
  if (value === null || (kind !== WIDE && kind !== JSON_TEXT && kind !== TIME)) return value;
  if (Array.isArray(value)) return value.map((item) => decodeValue(kind, item, int8, column));
  if (kind === JSON_TEXT) return JSON.parse(value as string);
  if (kind === TIME) return typeof value === "string" ? value : decodeTime(value as number | bigint, column);
  return decodeWide(value as number | bigint, int8, column);
}

function decodeWide(value: number | bigint, int8: Int8Format, column: string): unknown {
  if (int8 === "bigint") return BigInt(value);
  if (int8 === "string") return String(value);
  if (typeof value === "number") return value;
  throw new StoreError(
    `column ${JSON.stringify(column)} holds an integer that a number cannot hold exactly; set int8 to "bigint" or "string"`,
  );
}

const INFINITY = 2n ** 63n - 1n;

/** Microseconds as a Date; the infinities as numbers, since no Date is infinite. */
function decodeTime(micros: number | bigint, column: string): Date | number {
  if (micros === INFINITY) return Infinity;
  if (micros === -INFINITY - 1n) return -Infinity;
  const date = new Date(Math.floor(Number(micros) / 1000));
  if (Number.isNaN(date.getTime())) {
    throw new StoreError(
      `column ${JSON.stringify(column)} holds a time that a Date cannot hold; set timestamps to "string"`,
    );
  }
  return date;
}

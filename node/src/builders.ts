// Builders of operations on one cell. Text and checks are native; a class here is a handle with typed methods.

import { checkedText, checkedTexts } from "./data";
import { TaskError, throwing } from "./errors";
import {
  native,
  type BuilderHandle,
  type ColumnHandle,
  type NativeOps,
  type TableHandle,
  type TaskHandle,
} from "./native";
import { cellOf, Task, taskOf, type PreparedTask, type Rendered } from "./sql";
import { encodeArgs, type Bind, type SqlArg } from "./values";

const NO_OPS: NativeOps = [];

type BuilderClass<T> = new (handle: BuilderHandle, ops?: NativeOps) => T;

/** What every builder can do. Builders are immutable: every step gives a new one. */
export abstract class Builder {
  readonly #handle: BuilderHandle;
  // Operations that the handle does not have yet. They go along with the next step: a handle for each would cost more
  // than all the rest of it.
  readonly #ops: NativeOps;

  /** @internal */
  constructor(handle: BuilderHandle, ops: NativeOps = NO_OPS) {
    this.#handle = handle;
    this.#ops = ops;
  }

  /** @internal The next builder of the same class. */
  protected next(step: (handle: BuilderHandle, ops: NativeOps) => BuilderHandle): this {
    const Class = this.constructor as BuilderClass<this>;
    return new Class(throwing(() => step(this.#handle, this.#ops)));
  }

  /** @internal */
  protected op(name: string, ...args: unknown[]): this {
    const Class = this.constructor as BuilderClass<this>;
    return new Class(this.#handle, [...this.#ops, name, encodeArgs(args, `${name}()`)]);
  }

  /** The rows to change, with `?` for each argument. Repeated calls are joined by AND. */
  where(text: string, ...args: SqlArg[]): this {
    const condition = checkedText(text, "where");
    const given = encodeArgs(args, "where()");
    return this.next((handle, ops) => native.builderWhere(handle, ops, condition, given));
  }

  /**
   * Inserts the row with these values first if it is missing, so that a first like is not lost. The columns that
   * `where` compares with `=` are the row's key and must be a unique index.
   */
  orInsert(columns: Record<string, SqlArg>): this {
    if (typeof columns !== "object" || columns === null) throw new TaskError("orInsert takes an object of columns");
    const names = checkedTexts(Object.keys(columns), "orInsert");
    const given = encodeArgs(Object.values(columns), "orInsert()");
    return this.next((handle, ops) => native.builderOrInsert(handle, ops, names, given));
  }

  /** Gives back these columns of the changed rows; `"*"` gives all. */
  returning(...columns: string[]): this {
    const names = checkedTexts(columns, "returning");
    return this.next((handle, ops) => native.builderReturning(handle, ops, names));
  }

  /** Names the row for sharding and statistics; it never changes the result. */
  batchKey(key: string): this {
    const name = checkedText(key, "batchKey");
    return this.next((handle, ops) => native.builderBatchKey(handle, ops, name));
  }

  /** Allows a change of every row, without `where`. */
  allRows(): this {
    return this.next((handle, ops) => native.builderAllRows(handle, ops));
  }

  /** The task. Optional: every verb that takes a task takes a builder. */
  build(): Task {
    return new Task(this[taskOf]);
  }

  /** For a builder whose arguments hold `bind`: a function that makes tasks from arguments. */
  prepare(): PreparedTask {
    return this.build().prepare();
  }

  /** Shows what would run. */
  render(): Rendered {
    return this.build().render();
  }

  /** @internal */
  get [taskOf](): TaskHandle {
    return throwing(() => native.builderBuild(this.#handle, this.#ops));
  }

  /** @internal */
  get [cellOf](): TaskHandle {
    return throwing(() => native.builderCell(this.#handle, this.#ops));
  }
}

/** A number for a counter: exact decimals and floats beyond a number as text. */
export type CounterValue = number | bigint | string | Bind;

/** Operations on a numeric column (integer, numeric, float); NULL reads as 0. Several apply in order. */
export class Counter extends Builder {
  /** Adds. */
  inc(n: CounterValue): this {
    return this.op("inc", n);
  }

  /** Subtracts. */
  dec(n: CounterValue): this {
    return this.op("dec", n);
  }

  /** Multiplies. */
  mul(n: CounterValue): this {
    return this.op("mul", n);
  }

  /** Replaces. */
  set(n: CounterValue): this {
    return this.op("set", n);
  }

  /** Sets to 0. */
  clean(): this {
    return this.op("clean");
  }
}

/** Operations on a JSONB array; NULL reads as `[]`. Several apply in order. */
export class Slice extends Builder {
  /** Appends. */
  add(element: SqlArg): this {
    return this.op("add", element);
  }

  /** Removes every equal element. */
  del(element: SqlArg): this {
    return this.op("del", element);
  }

  /** Sets to `[]`. */
  clean(): this {
    return this.op("clean");
  }
}

/** Operations on a JSONB object; NULL reads as `{}`. Several apply in order. */
export class MapBuilder extends Builder {
  /** Sets a key. */
  set(key: string | Bind, value: SqlArg): this {
    return this.op("set", key, value);
  }

  /** Removes a key. */
  del(key: string | Bind): this {
    return this.op("del", key);
  }
}

/** A column, not yet said to be a counter, a slice or a map. */
export class Column {
  readonly #handle: ColumnHandle;

  /** @internal */
  constructor(handle: ColumnHandle) {
    this.#handle = handle;
  }

  /** As a number. */
  counter(): Counter {
    return new Counter(throwing(() => native.builderOf(this.#handle, "counter")));
  }

  /** As a JSONB array. */
  slice(): Slice {
    return new Slice(throwing(() => native.builderOf(this.#handle, "slice")));
  }

  /** As a JSONB object. */
  map(): MapBuilder {
    return new MapBuilder(throwing(() => native.builderOf(this.#handle, "map")));
  }
}

/** A table. */
export class Table {
  readonly #handle: TableHandle;

  /** @internal */
  constructor(handle: TableHandle) {
    this.#handle = handle;
  }

  /** One of its columns. */
  column(name: string): Column {
    const column = checkedText(name, "the column's name");
    return new Column(throwing(() => native.columnOf(this.#handle, column)));
  }
}

/** A table by its name, possibly qualified: `table("public.feeds")`. */
export function table(name: string): Table {
  const given = checkedText(name, "the table's name");
  return new Table(throwing(() => native.tableOf(given)));
}

/** Handles of builders without a step, by table and column. */
type Begun = Map<string, Map<string, BuilderHandle>>;
const begun: Record<"counter" | "slice" | "map", Begun> = { counter: new Map(), slice: new Map(), map: new Map() };
// Programs name the same few columns for ever. Those who make up names do not fill the memory.
const MAX_BEGUN = 1_024;
let countOfBegun = 0;

function named(kind: keyof typeof begun, tableName: string, columnName: string): BuilderHandle {
  const known = begun[kind].get(tableName)?.get(columnName);
  if (known) return known;
  const from = checkedText(tableName, "the table's name");
  const column = checkedText(columnName, "the column's name");
  const handle = throwing(() => native.builderNamed(kind, from, column));
  if (++countOfBegun > MAX_BEGUN) {
    Object.values(begun).forEach((tables) => tables.clear());
    countOfBegun = 1;
  }
  const columns = begun[kind].get(from) ?? new Map<string, BuilderHandle>();
  begun[kind].set(from, columns.set(column, handle));
  return handle;
}

/** `table(t).column(c).counter()`: `counter("feed_meta", "like_count").inc(1).where("id = ?", id)`. */
export function counter(tableName: string, columnName: string): Counter {
  return new Counter(named("counter", tableName, columnName));
}

/** `table(t).column(c).slice()`: `slice("feed_meta", "tags").add("tag1").where("id = ?", id)`. */
export function slice(tableName: string, columnName: string): Slice {
  return new Slice(named("slice", tableName, columnName));
}

/** `table(t).column(c).map()`: `map("feed_meta", "extra").set("k", "v").where("id = ?", id)`. */
export function map(tableName: string, columnName: string): MapBuilder {
  return new MapBuilder(named("map", tableName, columnName));
}

// SQL tasks and their builders. Text and checks are native; a class here is a handle with typed methods.

import { checkedText, checkedTexts } from "./data";
import { TaskError, throwing } from "./errors";
import {
  native,
  type BuilderHandle,
  type ColumnHandle,
  type ConflictHandle,
  type TableHandle,
  type TaskHandle,
} from "./native";
import { decodeParams, encodeArgs, type Bind, type SqlArg, type SqlValue } from "./values";

/** What would run: PostgreSQL text with `$1 …`, and one parameter for each. */
export interface Rendered {
  sql: string;
  params: unknown[];
}

/** Makes tasks cheaply: call it with one argument for each open place. */
export type PreparedTask = (...args: SqlValue[]) => Task;

/** A task, or a builder that is complete enough to be one. */
export type TaskLike = Task | Builder;

/** One task, or several that run in one transaction, in order. */
export type Tasks = TaskLike | readonly TaskLike[];

// Shared by every copy of this module, so that their tasks can be mixed.
const taskOf = Symbol.for("zmsg.task");

/** One SQL statement with its arguments. It is checked when it is made; making it does no I/O. Immutable. */
export class Task {
  readonly #handle: TaskHandle;

  /** @internal */
  constructor(handle: TaskHandle) {
    this.#handle = handle;
  }

  /** `ON CONFLICT (columns)`; say next what to do then. */
  onConflict(...columns: string[]): OnConflict {
    const names = checkedTexts(columns, "onConflict");
    return new OnConflict(throwing(() => native.taskOnConflict(this.#handle, names)));
  }

  /** Gives back these columns of the changed rows; `"*"` gives all. */
  returning(...columns: string[]): Task {
    const names = checkedTexts(columns, "returning");
    return new Task(throwing(() => native.taskReturning(this.#handle, names)));
  }

  /** Names what this task belongs to where tasks are coalesced; it never changes what the task does. */
  batchKey(key: string): Task {
    const name = checkedText(key, "batchKey");
    return new Task(throwing(() => native.taskBatchKey(this.#handle, name)));
  }

  /** Turns a template into a function that makes tasks from arguments. */
  prepare(): PreparedTask {
    const handle = this.#handle;
    throwing(() => native.taskCheckTemplate(handle));
    return (...args) => new Task(throwing(() => native.taskBind(handle, encodeArgs(args, "a prepared task"))));
  }

  /** Shows what would run. */
  render(): Rendered {
    const { sql, params } = throwing(() => native.taskRender(this.#handle));
    return { sql, params: decodeParams(params) };
  }

  /** @internal */
  get [taskOf](): TaskHandle {
    return this.#handle;
  }
}

/** `ON CONFLICT (…)`, waiting to be told what to do. */
export class OnConflict {
  readonly #handle: ConflictHandle;

  /** @internal */
  constructor(handle: ConflictHandle) {
    this.#handle = handle;
  }

  /** `DO UPDATE SET column = EXCLUDED.column` for each of the columns. */
  doUpdate(...columns: string[]): Task {
    const names = checkedTexts(columns, "doUpdate");
    return new Task(throwing(() => native.conflictDo(this.#handle, names)));
  }

  /** `DO NOTHING`. */
  doNothing(): Task {
    return new Task(throwing(() => native.conflictDo(this.#handle, undefined)));
  }
}

/**
 * A statement with `?` for each argument; `??` is a literal `?`.
 *
 * ```ts
 * sql("UPDATE feeds SET content = ? WHERE id = ?", content, id)
 * sql("INSERT INTO feeds (id, content) VALUES (?, ?)", id, content).onConflict("id").doUpdate("content")
 * ```
 * Without arguments for its `?` it is a template, for `source` and `prepare()` only.
 *
 * @throws {@link TaskError} if the text does not lex, holds more than one statement, `$1` or `%s`, or another number of
 * `?` than there are arguments.
 */
export function sql(text: string, ...args: SqlArg[]): Task {
  const statement = checkedText(text, "the SQL text");
  return new Task(throwing(() => native.taskSql(statement, encodeArgs(args, "sql"))));
}

/** What every builder can do. Builders are immutable: every step gives a new one. */
export abstract class Builder {
  readonly #handle: BuilderHandle;

  /** @internal */
  constructor(handle: BuilderHandle) {
    this.#handle = handle;
  }

  /** @internal The next builder of the same class. */
  protected next(step: (handle: BuilderHandle) => BuilderHandle): this {
    const Class = this.constructor as new (handle: BuilderHandle) => this;
    return new Class(throwing(() => step(this.#handle)));
  }

  /** @internal */
  protected op(name: string, ...args: unknown[]): this {
    const given = encodeArgs(args, `${name}()`);
    return this.next((handle) => native.builderOp(handle, name, given));
  }

  /** The rows to change, with `?` for each argument. Repeated calls are joined by AND. */
  where(text: string, ...args: SqlArg[]): this {
    const condition = checkedText(text, "where");
    const given = encodeArgs(args, "where()");
    return this.next((handle) => native.builderWhere(handle, condition, given));
  }

  /**
   * Inserts the row with these values first if it is missing, so that a first like is not lost. The columns that
   * `where` compares with `=` are the row's key and must be a unique index.
   */
  orInsert(columns: Record<string, SqlArg>): this {
    if (typeof columns !== "object" || columns === null) throw new TaskError("orInsert takes an object of columns");
    const names = checkedTexts(Object.keys(columns), "orInsert");
    const given = encodeArgs(Object.values(columns), "orInsert()");
    return this.next((handle) => native.builderOrInsert(handle, names, given));
  }

  /** Gives back these columns of the changed rows; `"*"` gives all. */
  returning(...columns: string[]): this {
    const names = checkedTexts(columns, "returning");
    return this.next((handle) => native.builderReturning(handle, names));
  }

  /** Names the row for sharding and statistics; it never changes the result. */
  batchKey(key: string): this {
    const name = checkedText(key, "batchKey");
    return this.next((handle) => native.builderBatchKey(handle, name));
  }

  /** Allows a change of every row, without `where`. */
  allRows(): this {
    return this.next((handle) => native.builderAllRows(handle));
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
    return throwing(() => native.builderBuild(this.#handle));
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

function named(kind: string, tableName: string, columnName: string): BuilderHandle {
  const from = checkedText(tableName, "the table's name");
  const column = checkedText(columnName, "the column's name");
  return throwing(() => native.builderNamed(kind, from, column));
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

/** @internal The handle of one task. */
export function taskHandle(task: unknown): TaskHandle {
  if (typeof task === "object" && task !== null && taskOf in task) return task[taskOf] as TaskHandle;
  if (typeof task === "string") throw new TaskError("a task is a string; wrap it: sql(text, …arguments)");
  if (typeof task === "function") throw new TaskError("a task is a function; call it: a prepared task takes arguments");
  const given = task === null ? "null" : Array.isArray(task) ? "a list" : typeof task;
  throw new TaskError(`a task is made by sql(), counter(), slice() or map(), not ${given}`);
}

/** @internal The handle of one task or of a list. */
export function tasksHandle(tasks: unknown): TaskHandle {
  if (!Array.isArray(tasks)) return taskHandle(tasks);
  const list = native.taskList();
  for (const task of tasks) native.taskPush(list, taskHandle(task));
  return list;
}

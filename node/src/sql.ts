// SQL tasks. Text and checks are native; a class here is a handle with typed methods.

import { checkedText, checkedTexts } from "./data";
import { TaskError, throwing } from "./errors";
import type { Builder } from "./builders";
import { native, type ConflictHandle, type TaskHandle } from "./native";
import { decodeParams, encodeArgs, type SqlArg, type SqlValue } from "./values";

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
/** @internal */
export const taskOf: unique symbol = Symbol.for("zmsg.task");
/** @internal Of a builder that names a cell, with or without an operation on it. */
export const cellOf: unique symbol = Symbol.for("zmsg.cell");

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

/** @internal The handle of one task. */
export function taskHandle(task: unknown): TaskHandle {
  if (typeof task === "object" && task !== null && taskOf in task) return task[taskOf] as TaskHandle;
  if (typeof task === "string") throw new TaskError("a task is a string; wrap it: sql(text, …arguments)");
  if (typeof task === "function") throw new TaskError("a task is a function; call it: a prepared task takes arguments");
  const given = task === null ? "null" : Array.isArray(task) ? "a list" : typeof task;
  throw new TaskError(`a task is made by sql(), counter(), slice() or map(), not ${given}`);
}

/** @internal The handle of what names a cell. */
export function cellHandle(task: unknown): TaskHandle {
  const isBuilder = typeof task === "object" && task !== null && cellOf in task;
  return isBuilder ? (task[cellOf] as TaskHandle) : taskHandle(task);
}

/** @internal The handle of one task or of a list. */
export function tasksHandle(tasks: unknown): TaskHandle {
  if (!Array.isArray(tasks)) return taskHandle(tasks);
  const list = native.taskList();
  for (const task of tasks) native.taskPush(list, taskHandle(task));
  return list;
}

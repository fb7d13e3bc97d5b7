// The engine's log lines on their way to the loggers that were given to `Zmsg.open`.

import { native, type CallsHandle } from "./native";

/** Where log lines go: `console` fits, and pino, winston and their like. Methods that are missing are not called. */
export interface Logger {
  debug?(message: string): unknown;
  info?(message: string): unknown;
  warn?(message: string): unknown;
  error?(message: string): unknown;
}

type Level = keyof Logger;

// How many open engines use each logger. The engine's log is one for all engines of the process.
const loggers = new Map<Logger, number>();

/** @internal Hands one line to every logger. */
export function log(level: Level, message: string): void {
  for (const logger of loggers.keys()) {
    try {
      logger[level]?.(message);
    } catch {
      // A broken logger must not break the calls whose replies came with this line.
    }
  }
}

/** @internal Adds a logger; what comes back removes it. */
export function addLogger(calls: CallsHandle, logger: Logger): () => void {
  const change = (by: number) => {
    const users = (loggers.get(logger) ?? 0) + by;
    if (users > 0) loggers.set(logger, users);
    else loggers.delete(logger);
    native.callsLog(calls, threshold());
  };
  change(1);
  let removed = false;
  return () => {
    if (!removed) change(-1);
    removed = true;
  };
}

function threshold(): string | undefined {
  if (loggers.size === 0) return undefined;
  return [...loggers.keys()].some((logger) => typeof logger.debug === "function") ? "debug" : "info";
}

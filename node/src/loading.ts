// Loads by the caller's own function: what getOrLoad does with the duty that the engine gives.

import { start } from "./calls";
import { encodeData, type Data } from "./data";
import { log } from "./log";
import { native, type EngineHandle, type LoadHandle, type NativeLastGood } from "./native";

/** What a loader gives: data, or nothing for an absence. */
export type Loaded = Data | null | undefined;

/** @internal Runs the loader once and tells everybody who waits what came of it; gives the bytes, or throws as it threw. */
export async function run(
  engine: EngineHandle,
  load: LoadHandle,
  loader: () => Promise<Loaded> | Loaded,
): Promise<Buffer | undefined> {
  let data: Uint8Array | string | null;
  try {
    const given = await loader();
    data = given === undefined ? null : encodeData(given);
  } catch (error) {
    const covered = await start<NativeLastGood>(undefined, (call) => native.loadFail(engine, call, load, cause(error)));
    if (!covered.found) throw error;
    return covered.value;
  }
  return start<Buffer | undefined>(undefined, (call) => native.loadComplete(engine, call, load, data));
}

/**
 * @internal The same, no longer than the soft timeout if there is a last good value, and not after the signal fires, which
 * leaves the load to one of those who wait.
 */
export async function runSoftly(
  engine: EngineHandle,
  load: LoadHandle,
  softMs: number | undefined,
  loader: () => Promise<Loaded> | Loaded,
  signal: AbortSignal | null | undefined,
): Promise<Buffer | undefined> {
  if (signal?.aborted) {
    native.loadGiveUp(load);
    signal.throwIfAborted();
  }
  const running = run(engine, load, loader);
  if (softMs === undefined && !signal) return running;
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      native.loadGiveUp(load);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is the caller's own
      reject(signal?.reason);
    };
    const soft = softMs === undefined ? undefined : setTimeout(() => void orLastGood().catch(() => undefined), softMs);
    const orLastGood = async () => {
      const covered = await start<NativeLastGood>(undefined, (call) => native.loadLastGood(engine, call, load));
      if (covered.found) resolve(covered.value);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    running.then(resolve, reject).finally(() => {
      clearTimeout(soft);
      signal?.removeEventListener("abort", onAbort);
    });
  });
}

/** @internal Loads a value anew that is still fresh, in the background. */
export function renew(engine: EngineHandle, load: LoadHandle, loader: () => Promise<Loaded> | Loaded): void {
  run(engine, load, loader).catch((error: unknown) =>
    log("warn", `a loader failed in the background: ${cause(error)}`),
  );
}

function cause(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.slice(0, 1_000).replace(/[\uD800-\uDFFF]/gu, "\uFFFD");
}

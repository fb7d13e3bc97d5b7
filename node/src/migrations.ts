import { checkOptions, start, type CallOptions } from "./calls";
import { camelKeys } from "./config";
import { throwing } from "./errors";
import { native, type EngineHandle, type LoadedHandle } from "./native";
import type { MigrationReport } from "./types";

const OPTIONS = new Set(["timeout", "signal"]);

/** Migrations that were loaded. */
export class Migrations {
  readonly #engine: EngineHandle;
  readonly #load: () => LoadedHandle;
  #loaded: LoadedHandle | undefined;

  /** @internal */
  constructor(engine: EngineHandle, load: () => LoadedHandle) {
    this.#engine = engine;
    this.#load = load;
    this.#loaded = throwing(load);
  }

  /**
   * Applies what this database has not had, each in a transaction of its own, while other processes wait.
   *
   * @throws {@link ConfigError} naming a file that was changed after it had been applied; {@link StoreError} naming the
   * file and line that PostgreSQL refused.
   */
  async migrate(options?: CallOptions): Promise<MigrationReport> {
    const report = await start<string>(options, (call) => {
      checkOptions(options, OPTIONS);
      const loaded = this.#loaded ?? this.#load();
      this.#loaded = undefined;
      native.migrate(this.#engine, call, loaded);
    });
    return camelKeys(JSON.parse(report)) as MigrationReport;
  }
}

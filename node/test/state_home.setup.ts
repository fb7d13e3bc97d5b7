// Journals of aggregated writes go to the user's state directory by default; tests have one of their own.
// Before the workers start: the engine reads the process's environment, of which a test sees but a copy.

import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default async function setup(): Promise<void> {
  process.env["XDG_STATE_HOME"] = await mkdtemp(join(tmpdir(), "zmsg-state-"));
}

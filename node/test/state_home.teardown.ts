// Removes what state_home.setup.ts made.

import { rm } from "node:fs/promises";

export default async function teardown(): Promise<void> {
  await rm(process.env["XDG_STATE_HOME"]!, { recursive: true, force: true });
}

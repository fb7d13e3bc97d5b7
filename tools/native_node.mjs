// Put the compiled Node addon where the package loads it from: node native_node.mjs PROFILE_DIR NODE_DIST
//
// cargo names a shared library as the system does; node wants `.node`, and the platform in the name lets one package
// carry several. On Linux the C library is part of the platform.
import { copyFileSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";

const [profileDir, dist] = process.argv.slice(2);
const library = { linux: "libzmsg_node.so", darwin: "libzmsg_node.dylib", win32: "zmsg_node.dll" }[process.platform];
if (!profileDir || !dist || !library) {
  console.error(`usage: native_node.mjs PROFILE_DIR NODE_DIST (on linux, darwin or win32, not ${process.platform})`);
  process.exit(1);
}

const libc =
  process.platform === "linux" ? (process.report.getReport().header.glibcVersionRuntime ? "-gnu" : "-musl") : "";
const target = join(dist, `zmsg.${process.platform}-${process.arch}${libc}.node`);
mkdirSync(dist, { recursive: true });
// Renamed into place: a running process keeps the file it has mapped.
copyFileSync(join(profileDir, library), `${target}.new`);
renameSync(`${target}.new`, target);
console.log(target);

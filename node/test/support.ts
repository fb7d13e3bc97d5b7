// Real servers for the tests: a database and a Redis namespace of their own.

import { randomBytes } from "node:crypto";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

import { sql, Zmsg, type OpenOptions, type Settings } from "zmsg";

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests through \`make test-node\`, which starts the servers`);
  return value;
}

/** The servers that the tests run against. */
export const servers = () => ({ dsn: required("ZMSG_POSTGRES_DSN"), redis: required("ZMSG_REDIS_ADDR") });

const unique = (prefix: string) => `${prefix}_${process.pid}_${randomBytes(5).toString("hex")}`;

/** A Redis namespace that nobody else uses. */
export const namespace = () => unique("test");

/** The DSN of another database on the same server. */
function withDatabase(dsn: string, name: string): string {
  if (!/^postgres(ql)?:\/\//.test(dsn)) return `${dsn} dbname=${name}`;
  const query = dsn.indexOf("?");
  const [address, rest] = query < 0 ? [dsn, ""] : [dsn.slice(0, query), dsn.slice(query)];
  const slash = address.indexOf("/", address.indexOf("://") + 3);
  return `${slash < 0 ? address : address.slice(0, slash)}/${name}${rest}`;
}

/** An engine on the server's own database, for what makes and drops others. */
const administrator = (dsn: string) =>
  Zmsg.open({ postgresDsn: dsn, redisAddr: null, namespace: namespace(), journal: "memory", poolSize: 1 });

/** A fresh database; drop it when done. */
export async function database(): Promise<{ dsn: string; drop(): Promise<void> }> {
  const { dsn } = servers();
  const name = unique("zmsg");
  const admin = await administrator(dsn);
  try {
    await admin.sqlExec(sql(`CREATE DATABASE ${name}`));
  } finally {
    await admin.close();
  }
  return { dsn: withDatabase(dsn, name), drop: () => dropDatabase(dsn, name) };
}

async function dropDatabase(dsn: string, name: string): Promise<void> {
  const admin = await administrator(dsn);
  try {
    // A killed child may have left a session; DROP … WITH (FORCE) is newer than the oldest server.
    await admin.query(sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", name));
    await admin.sqlExec(sql(`DROP DATABASE IF EXISTS ${name}`));
  } finally {
    await admin.close();
  }
}

/** An engine on a database and a namespace of its own, and what gives both back. */
export async function stage(settings: Settings = {}) {
  const base = await database();
  const config = { postgresDsn: base.dsn, redisAddr: servers().redis, namespace: namespace(), ...settings };
  const engines: Zmsg[] = [];
  const open = async (more: OpenOptions = {}) => {
    const engine = await Zmsg.open({ ...config, ...more });
    engines.push(engine);
    return engine;
  };
  const end = async () => {
    await Promise.all(engines.map((engine) => engine.close()));
    await base.drop();
  };
  return { config, open, end };
}

/** The error that a promise is rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was not rejected");
}

/** A TCP proxy before Redis that a test can cut. */
export async function cuttable(address: string): Promise<{ address: string; cut(): void; end(): Promise<void> }> {
  const [host, port] = [
    address.slice(0, address.lastIndexOf(":")),
    Number(address.slice(address.lastIndexOf(":") + 1)),
  ];
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, host);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => undefined).on("close", () => other.destroy());
      socket.pipe(other);
    }
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const cut = () => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  };
  const closed = new Promise<void>((resolve) => server.on("close", () => resolve()));
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, cut, end: () => (cut(), closed) };
}

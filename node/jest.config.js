// The tests import `zmsg`, the package as it is published (dist), so that what is tested is what users get.
/** @type {import("jest").Config} */
module.exports = {
  testEnvironment: "node",
  testMatch: ["<rootDir>/test/**/*.test.ts"],
  // Types are checked by `make lint`; here TypeScript is only translated.
  transform: { "\\.ts$": ["ts-jest", { tsconfig: "<rootDir>/tsconfig.json", diagnostics: false }] },
  globalSetup: "<rootDir>/test/state_home.setup.ts",
  globalTeardown: "<rootDir>/test/state_home.teardown.ts",
  testTimeout: 30_000,
};

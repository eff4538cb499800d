#!/usr/bin/env bash
# @laravel/echo-vue 2.5.0 and @laravel/echo-react 2.5.0 (npm, https://github.com/laravel/echo): `require()` fails with
# "exports is not defined in ES module scope", although each package names a file for CommonJS (`main`:
# dist/index.common.js). Its "type": "module" has Node read that file as an ES module. So tests and servers in CommonJS
# can't load the hooks; `import` works.
# Seen with Node 20.20.2. Exits with 1 when that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @laravel/echo-vue@2.5.0 @laravel/echo-react@2.5.0 laravel-echo@2.5.0 pusher-js@8.6.0 \
    vue@3.5.45 react@19.3.1
cat >look.cjs <<'JS'
const attempt = (name) => { try { return Object.keys(require(name)); } catch (error) { return error.message.split('\n')[0]; } };
const seen = ['@laravel/echo-vue', '@laravel/echo-react'].map(attempt);
console.log(seen);
process.exit(seen.every((text) => String(text).includes('exports is not defined')) ? 0 : 1);
JS
node look.cjs
cat >import.mjs <<'JS'
for (const name of ['@laravel/echo-vue', '@laravel/echo-react']) {
  const hooks = Object.keys(await import(name));
  if (!hooks.includes('useEcho')) throw new Error(`${name} has no useEcho`);
}
JS
node import.mjs

#!/usr/bin/env bash
# @laravel/echo-vue 2.5.0 (npm, https://github.com/laravel/echo): `useEcho` subscribes while `setup()` runs, not when
# the component is mounted. So rendering a page on the server opens a WebSocket from the server, which stays open,
# and throws "Echo has not been configured" where `configureEcho` is called in the browser's entry only.
# `useEcho` of @laravel/echo-react 2.5.0 does neither: it subscribes in an effect.
# Seen with vue 3.5.45, react 19.3.1 and pusher-js 8.6.0 on Node 20. Exits with 1 when that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @laravel/echo-vue@2.5.0 @laravel/echo-react@2.5.0 pusher-js@8.6.0 vue@3.5.45 \
    react@19.3.1 react-dom@19.3.1
cat >render.mjs <<'JS'
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import * as react from '@laravel/echo-react';
import * as vue from '@laravel/echo-vue';
import { createElement } from 'react';
import { renderToString as renderReact } from 'react-dom/server';
import { createSSRApp } from 'vue';
import { renderToString as renderVue } from 'vue/server-renderer';

let connections = 0;
const server = createServer((socket) => { connections += 1; socket.destroy(); });
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const { port } = server.address();
const options = { broadcaster: 'reverb', key: 'key', wsHost: '127.0.0.1', wsPort: port, forceTLS: false };

const vuePage = () => renderVue(createSSRApp({ setup() { vue.useEcho('orders.1', 'Shipped', () => {}); return () => null; } }));
const reactPage = () => renderReact(createElement(() => { react.useEcho('orders.1', 'Shipped', () => {}); return null; }));
const attempt = async (render) => { try { await render(); return 'rendered'; } catch (error) { return error.message; } };
const connects = async (render) => { connections = 0; await render(); await wait(2000); return connections > 0; };

const seen = { react: await attempt(reactPage), vue: await attempt(vuePage) };
react.configureEcho(options);
seen.reactConnects = await connects(reactPage);
vue.configureEcho(options);
seen.vueConnects = await connects(vuePage);
console.log(seen);
const isAsDescribed = seen.react === 'rendered' && seen.vue.includes('has not been configured') && !seen.reactConnects && seen.vueConnects;
process.exit(isAsDescribed ? 0 : 1);
JS
node render.mjs

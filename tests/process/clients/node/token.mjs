// Loaded before the conformance suite (`--import`), which has no option for a credential: each of its requests to BASE_URL
// carries TOKEN, whatever it is made with. Nothing else of a request changes.
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";

const { BASE_URL, TOKEN } = process.env;
const { origin } = new URL(BASE_URL);
const credential = `Bearer ${TOKEN}`;

// fetch, and undici's own request(): they share one dispatcher, which is there from the first fetch on.
const shared = Symbol.for("undici.globalDispatcher.1");
await fetch("data:,");
const dispatcher = globalThis[shared];

function withToken(headers) {
  if (Array.isArray(headers)) return [...headers, "authorization", credential];
  if (typeof headers?.[Symbol.iterator] === "function") return [...headers, ["authorization", credential]];
  return { ...headers, authorization: credential };
}

globalThis[shared] = new Proxy(dispatcher, {
  get(target, name) {
    if (name === "dispatch") {
      return (options, handler) => {
        const ours = String(options.origin) === origin;
        return target.dispatch(ours ? { ...options, headers: withToken(options.headers) } : options, handler);
      };
    }
    const value = target[name];
    return typeof value === "function" ? value.bind(target) : value;
  },
});

const { request } = http;
http.request = (options, ...rest) => {
  const ours = `http://${options.hostname}:${options.port}` === origin;
  return request(ours ? { ...options, headers: withToken(options.headers) } : options, ...rest);
};
syncBuiltinESMExports();

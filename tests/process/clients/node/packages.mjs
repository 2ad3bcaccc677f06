// Loaded before any other module (`--import`): packages are found where ./test installs them, not beside the scripts.
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

const home = pathToFileURL(`${process.env.NODE_PACKAGES}/package.json`).href;
const ours = new URL(".", import.meta.url).href;

registerHooks({
  resolve(specifier, context, next) {
    const bare = !/^([./]|[a-z]+:)/.test(specifier);
    return next(specifier, bare && context.parentURL?.startsWith(ours) ? { ...context, parentURL: home } : context);
  },
});

// The reference server on a port that the system chooses, which it says once it listens.
import http from "node:http";

const { listen } = http.Server.prototype;
http.Server.prototype.listen = function (_port, told) {
  return listen.call(this, 0, "127.0.0.1", () => {
    told?.();
    console.log(`port ${this.address().port}`);
  });
};
await import("./reference-server.ts");

// An agent's feed on Node's `ws`: unchanged but for base URL and token. Says what came back, then how it ended.

const { randomBytes } = require("node:crypto");
const WebSocket = require("ws");

const url = `${process.env.BASE_URL.replace("http", "ws")}/feed`;
const feed = new WebSocket(url, ["chat"], { headers: { authorization: `Bearer ${process.env.TOKEN}` } });
const messages = [Buffer.from("grüße"), randomBytes(1_000_000)];
let echoed = 0;

feed.on("open", () => messages.forEach((message, at) => feed.send(message, { binary: at > 0 })));
feed.on("message", (message) => {
  if (!message.equals(messages[echoed])) throw new Error(`message ${echoed} came back as something else`);
  echoed += 1;
  if (echoed === messages.length) feed.ping();
});
feed.on("pong", () => {
  console.log("echoed", feed.protocol);
  if (process.env.STAY === "no") feed.close();
});
feed.on("close", (code) => console.log("closed", code));

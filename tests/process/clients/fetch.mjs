// An agent's HTTP tool on Node's own fetch: unchanged but for base URL and token.

const base = process.env.BASE_URL;
const headers = { authorization: `Bearer ${process.env.TOKEN}` };

const found = await fetch(`${base}/users?q=ada%20lovelace&page=2`, { headers });
const made = await fetch(`${base}/users/7/notes`, {
  method: "POST",
  headers: { ...headers, "content-type": "application/json" },
  body: JSON.stringify({ text: "grüße" }),
});
const piped = await fetch(`${base}/users/7/notes`, {
  method: "POST",
  headers,
  duplex: "half",
  body: new ReadableStream({
    start(controller) {
      for (const part of ["one ", "two ", "three"]) controller.enqueue(new TextEncoder().encode(part));
      controller.close();
    },
  }),
});
const gone = await fetch(`${base}/users/8`, { method: "DELETE", headers });
let size = 0;
const big = await fetch(`${base}/big?bytes=3000000`, { headers });
for await (const part of big.body) size += part.length;

console.log(
  JSON.stringify({
    found: await found.json(),
    made: await made.json(),
    piped: await piped.json(),
    gone: [gone.status, await gone.json()],
    size,
  }),
);

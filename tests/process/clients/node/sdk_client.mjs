// An agent's client on an official TypeScript SDK of MCP, unchanged but for address and token: what it is shown, and what it
// gets. SDK names the package: the one of 2025-11-25, or the client that speaks both revisions, asked for REVISION.
const { BASE_URL, TOKEN, SDK, REVISION } = process.env;

const transport = { requestInit: { headers: { Authorization: `Bearer ${TOKEN}` } } };
const who = { name: "agent", version: "1" };

async function connected() {
  if (SDK === "@modelcontextprotocol/sdk") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(who);
    await client.connect(new StreamableHTTPClientTransport(new URL(BASE_URL), transport));
    const call = (params, onprogress) => client.callTool(params, undefined, { onprogress });
    return { client, call };
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const mode = REVISION === "2026-07-28" ? { pin: REVISION } : "legacy";
  const client = new Client(who, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(BASE_URL), transport));
  const call = (params, onprogress) => client.callTool(params, { onprogress });
  return { client, call };
}

// What a model would be told: a result, or the error that the SDK throws.
async function tried(promise) {
  try {
    return await promise;
  } catch (fault) {
    return { thrown: String(fault.message), code: fault.code, data: fault.data };
  }
}

const { client, call } = await connected();
const progress = [];
const say = {
  tools: (await client.listTools()).tools.map((each) => each.name).sort(),
  resources: (await client.listResources()).resources.map((each) => each.uri).sort(),
  prompts: (await client.listPrompts()).prompts.map((each) => each.name).sort(),
  called: await tried(call({ name: "test_simple_text", arguments: {} })),
  followed: await tried(
    call({ name: "test_tool_with_progress", arguments: {}, _meta: { progressToken: "p" } }, (at) => progress.push(at.progress)),
  ),
  refused: await tried(call({ name: "test_image_content", arguments: {} })),
  read: await tried(client.readResource({ uri: "test://static-text" })),
  unread: await tried(client.readResource({ uri: "test://static-binary" })),
  prompted: await tried(client.getPrompt({ name: "test_simple_prompt" })),
  unprompted: await tried(client.getPrompt({ name: "test_prompt_with_image" })),
  // A person is asked, and agrees while this waits.
  held: await tried(call({ name: "test_multiple_content_types", arguments: {} })),
  progress,
};
await client.close();
console.log(JSON.stringify(say));
process.exit(0);

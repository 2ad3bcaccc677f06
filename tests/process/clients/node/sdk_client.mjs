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
const repo = "acme/a";
const { tools } = await client.listTools();
const say = {
  tools: tools.map((each) => each.name).sort(),
  // Of these the SDK holds results to what they declare.
  declared: tools.filter((each) => each.outputSchema).map((each) => each.name).filter((name) => name === "list_issues"),
  resources: (await client.listResources()).resources.map((each) => each.uri),
  templates: (await client.listResourceTemplates()).resourceTemplates.map((each) => each.uriTemplate),
  prompts: (await client.listPrompts()).prompts.map((each) => each.name),
  called: await tried(call({ name: "list_issues", arguments: { repo } })),
  followed: await tried(call({ name: "slow_issues", arguments: { repo } }, (at) => progress.push(at.progress))),
  elsewhere: await tried(call({ name: "list_issues", arguments: { repo: "other/b" } })),
  refused: await tried(call({ name: "delete_repo", arguments: { repo } })),
  read: await tried(client.readResource({ uri: "repo://acme/README" })),
  unread: await tried(client.readResource({ uri: "secret://keys" })),
  prompted: await tried(client.getPrompt({ name: "review", arguments: { code: "x" } })),
  unprompted: await tried(client.getPrompt({ name: "leak" })),
  // A person is asked, and agrees while this waits.
  held: await tried(call({ name: "create_issue", arguments: { repo, title: "t" } })),
  progress,
};
await client.close();
console.log(JSON.stringify(say));
process.exit(0);

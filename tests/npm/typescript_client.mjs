// The official TypeScript SDK as a client: from an MCP URL alone to the answer of a tool, and again for each line given.
// node typescript_client.mjs MCP_URL CALLBACK_PORT TOOL ARGUMENTS [CLIENT_ID], which may be the address of a document
import http from "node:http";
import readline from "node:readline";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, port, tool, given, clientId] = process.argv.slice(2);
const isDocument = clientId?.startsWith("https://");
const kept = { client: clientId && !isDocument ? { client_id: clientId } : undefined, tokens: undefined, verifier: "" };
const provider = {
  clientMetadataUrl: isDocument ? clientId : undefined,
  redirectUrl: `http://127.0.0.1:${port}/callback`,
  clientMetadata: {
    client_name: "TypeScript program",
    redirect_uris: [`http://127.0.0.1:${port}/callback`],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  codeVerifier: () => kept.verifier,
  redirectToAuthorization: (address) => { console.log(`open ${address}`); },
};

const code = new Promise((resolve) => {
  http.createServer((request, response) => {
    const said = new URL(request.url, `http://127.0.0.1:${port}`).searchParams;
    response.end("Done.");
    if (said.get("code")) resolve(said.get("code"));
  }).listen(Number(port), "127.0.0.1");
});

const first = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
try {
  await new Client({ name: "program", version: "1" }).connect(first);
  throw new Error("let in without a token");
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
await first.finishAuth(await code);
const client = new Client({ name: "program", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider: provider }));
const use = async () => {
  const { tools } = await client.listTools();
  console.log(`tools ${tools.map((each) => each.name).sort().join(" ")}`);
  const answer = await client.callTool({ name: tool, arguments: JSON.parse(given) });
  console.log(`answer ${answer.content[0].text.replaceAll("\n", " ")}`);
};
await use();
console.log(`refresh ${Boolean(kept.tokens.refresh_token)}`);
for await (const _ of readline.createInterface({ input: process.stdin })) await use();
process.exit(0);

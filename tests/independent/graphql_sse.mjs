// The stock graphql-sse client subscribes and prints what it receives, one JSON value in each line.
import { createClient } from '../npm/node_modules/graphql-sse/lib/index.mjs';

const { url, token, query, variables, results } = JSON.parse(process.argv[2]);
const client = createClient({
  url,
  headers: { authorization: `Bearer ${token}` },
  retryAttempts: 0,
  on: { connected: () => console.log(JSON.stringify({ connected: true })) },
});
let received = 0;
for await (const result of client.iterate({ query, variables })) {
  console.log(JSON.stringify(result));
  received += 1;
  if (received === results) break;
}
client.dispose();

// Webhooks received by @supabase/stripe-sync-engine: node engine_webhooks.mjs DSN SECRET
// Says its port. It never asks Stripe for anything: an event that needs that fails.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url); // as in engine.mjs
const { runMigrations, StripeSync } = require("@supabase/stripe-sync-engine");
const Stripe = require("stripe");

const [dsn, secret] = process.argv.slice(2);
await runMigrations({ databaseUrl: dsn, schema: "stripe" });
const sync = new StripeSync({
  schema: "stripe",
  stripeSecretKey: "sk_test_unused",
  stripeWebhookSecret: secret,
  backfillRelatedEntities: false,
  poolConfig: { connectionString: dsn, max: 16 }, // as many as Billhook in `bench events`
});
sync.stripe = new Stripe("sk_test_unused", {
  httpClient: {
    getClientName: () => "none",
    makeRequest: () => Promise.reject(new Error("a request to Stripe")),
  },
});
const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  try {
    await sync.processWebhook(Buffer.concat(parts), request.headers["stripe-signature"]);
    response.end("{}");
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

// A backfill by @supabase/stripe-sync-engine: node engine.mjs DSN STRIPE_URL KEY
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Its ES module looks for its migrations by a name that only CommonJS has.
const require = createRequire(import.meta.url);
const { runMigrations, StripeSync } = require("@supabase/stripe-sync-engine");
const Stripe = require("stripe");

const [dsn, url, key] = process.argv.slice(2);
const { hostname, port } = new URL(url);
await runMigrations({ databaseUrl: dsn, schema: "stripe" });
const sync = new StripeSync({
  schema: "stripe",
  stripeSecretKey: key,
  stripeWebhookSecret: "whsec_unused",
  poolConfig: { connectionString: dsn, max: 10 },
});
// It has no setting for another host; the client that it made is replaced by one that has.
sync.stripe = new Stripe(key, { host: hostname, port, protocol: "http" });
const began = performance.now();
for (const object of ["product", "price", "customer", "subscription"]) {
  await sync.syncBackfill({ object, backfillRelatedEntities: false });
}
const seconds = (performance.now() - began) / 1000;
const peak = /VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1];
console.log(JSON.stringify({ seconds, peak_mb: Math.round(peak / 1024) }));
process.exit(0);

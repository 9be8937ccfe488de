// stripe-node in its normal use, against a running sandbox.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import Stripe from "stripe";

const { url, key } = JSON.parse(process.env.SANDBOX);
const { hostname, port, protocol } = new URL(url);
const options = { host: hostname, port: Number(port), protocol: protocol.slice(0, -1) };
const stripe = new Stripe(key, { ...options, maxNetworkRetries: 1 });

const control = async (name, given) => {
  const answer = await fetch(`${url}/_sandbox/${name}`, { method: "POST", body: JSON.stringify(given) });
  assert.ok(answer.ok, await answer.clone().text());
  return answer.json();
};

const newPrice = (recurring) =>
  stripe.prices.create({
    currency: "eur",
    unit_amount: 1500,
    product_data: { name: "Tea" },
    ...(recurring && { recurring: { interval: "month" } }),
  });

const newSession = async (mode) =>
  stripe.checkout.sessions.create({
    mode,
    success_url: "https://shop.example/thanks?session={CHECKOUT_SESSION_ID}",
    line_items: [{ price: (await newPrice(mode === "subscription")).id, quantity: 2 }],
    metadata: { order: "A 1/2 & [b]" },
  });

test("the catalog is written and read", async () => {
  const product = await stripe.products.create({ name: "Mug", metadata: { a: "1", b: "2" } });
  const changed = await stripe.products.update(product.id, { metadata: { a: "", c: "3" } });
  assert.deepEqual({ ...changed.metadata }, { b: "2", c: "3" });
  const price = await newPrice(false);
  assert.equal(String(price.unit_amount_decimal), "1500");
  assert.equal((await stripe.prices.retrieve(price.id, { expand: ["product"] })).product.name, "Tea");
  assert.equal((await stripe.products.del(product.id)).deleted, true);
});

test("lists page by themselves, both ways", async () => {
  const made = [];
  for (let i = 0; i < 25; i++) made.push((await stripe.customers.create({ name: `${i}` })).id);
  const seen = [];
  for await (const customer of stripe.customers.list({ limit: 10 })) seen.push(customer.id);
  assert.deepEqual(seen.slice(0, 25), made.toReversed());
  const newer = await stripe.customers.list({ ending_before: made[0], limit: 3 });
  assert.deepEqual(newer.data.map((c) => c.id), made.slice(1, 4).toReversed());
  assert.equal(newer.has_more, true);
});

test("a checkout is paid, read with expansions, and refunded", async () => {
  const session = await newSession("payment");
  assert.equal(session.payment_intent, null);
  await control("pay", { session: session.id });
  const paid = await stripe.checkout.sessions.retrieve(session.id, {
    expand: ["line_items", "payment_intent.latest_charge"],
  });
  assert.equal(paid.payment_status, "paid");
  assert.equal(paid.metadata.order, "A 1/2 & [b]");
  assert.equal(paid.line_items.data[0].amount_total, 3000);
  assert.equal(paid.payment_intent.latest_charge.paid, true);
  const refund = await stripe.refunds.create({ payment_intent: paid.payment_intent.id, amount: 1000 });
  assert.equal(refund.status, "succeeded");
});

test("a subscription is made, changed to end, kept, and cancelled", async () => {
  const session = await newSession("subscription");
  const { subscription } = await control("pay", { session: session.id });
  const found = await stripe.subscriptions.retrieve(subscription, { expand: ["latest_invoice.payments"] });
  assert.equal(found.status, "active");
  assert.ok(found.items.data[0].current_period_end > found.created);
  assert.equal(found.latest_invoice.payments.data[0].status, "paid");
  const ending = await stripe.subscriptions.update(subscription, { cancel_at_period_end: true });
  assert.equal(ending.cancel_at, found.items.data[0].current_period_end);
  await stripe.subscriptions.update(subscription, { cancel_at_period_end: false });
  assert.equal((await stripe.subscriptions.cancel(subscription)).status, "canceled");
});

test("errors arrive as the SDK's own classes", async () => {
  await assert.rejects(stripe.customers.retrieve("cus_gone"), (error) => {
    assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
    assert.deepEqual([error.code, error.statusCode, error.param], ["resource_missing", 404, "id"]);
    assert.ok(error.requestId.startsWith("req_"));
    return true;
  });
  const wrong = new Stripe("pk_nonsense", options);
  await assert.rejects(wrong.customers.list(), Stripe.errors.StripeAuthenticationError);
});

test("idempotency keys replay, and refuse other parameters", async () => {
  const idempotencyKey = crypto.randomUUID();
  const first = await stripe.customers.create({ name: "Ada" }, { idempotencyKey });
  const again = await stripe.customers.create({ name: "Ada" }, { idempotencyKey });
  assert.equal(first.id, again.id);
  await assert.rejects(
    stripe.customers.create({ name: "Bob" }, { idempotencyKey }),
    Stripe.errors.StripeIdempotencyError,
  );
});

test("webhooks verify", async () => {
  let arrived;
  const delivery = new Promise((resolve) => (arrived = resolve));
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      response.end();
      arrived({ body, signature: request.headers["stripe-signature"] });
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = await stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${server.address().port}/hook`,
    enabled_events: ["product.created"],
  });
  const product = await stripe.products.create({ name: "Pot" });
  const { body, signature } = await delivery;
  const event = stripe.webhooks.constructEvent(body, signature, endpoint.secret);
  assert.equal(event.data.object.id, product.id);
  assert.throws(() => stripe.webhooks.constructEvent(body, signature, "whsec_other"));
  await stripe.webhookEndpoints.del(endpoint.id);
  server.close();
});

test("the portal opens", async () => {
  const customer = await stripe.customers.create({ email: "ada@example.com" });
  const portal = await stripe.billingPortal.sessions.create({ customer: customer.id });
  assert.equal((await fetch(portal.url)).status, 200);
});

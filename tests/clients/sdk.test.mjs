// InsForge's own JavaScript SDK, unchanged, against Billhook. Started by test_sdk.py.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@insforge/sdk';

const env = JSON.parse(process.env.BILLHOOK_TEST);

function client(token) {
  const made = createClient({ baseUrl: env.url, anonKey: env.anonymousKey });
  if (token) made.getHttpClient().setAuthToken(token);
  return made.payments.stripe;
}

const order = (more) => ({
  mode: 'payment',
  lineItems: [{ priceId: env.price, quantity: 1 }],
  successUrl: 'https://shop.example/done',
  cancelUrl: 'https://shop.example/cart',
  ...more,
});
const mine = { type: 'user', id: env.user };

test('a signed-in user opens a checkout', async () => {
  const { data, error } = await client(env.token).createCheckoutSession('test', order({ subject: mine }));
  assert.equal(error, null);
  assert.equal(data.checkoutSession.status, 'open');
  assert.match(data.checkoutSession.url, /^http/);
});

test('a guest opens a one-time checkout with the anonymous key', async () => {
  const { data, error } = await client().createCheckoutSession('test', order());
  assert.equal(error, null);
  assert.equal(data.checkoutSession.subjectId, null);
});

test('a subscription is opened for a subject', async () => {
  const { data, error } = await client(env.token).createCheckoutSession(
    'test',
    order({ mode: 'subscription', subject: mine, lineItems: [{ priceId: env.monthly }] }),
  );
  assert.equal(error, null);
  assert.equal(data.checkoutSession.mode, 'subscription');
});

test('the portal opens for a subject with a customer', async () => {
  const { data, error } = await client(env.token).createCustomerPortalSession('test', {
    subject: mine,
    returnUrl: 'https://shop.example/account',
  });
  assert.equal(error, null);
  assert.equal(data.customerPortalSession.status, 'created');
});

const refusals = {
  'RLS refuses somebody else\'s subject': [403, 'AUTH_UNAUTHORIZED', () =>
    client(env.token).createCheckoutSession('test', order({ subject: { type: 'user', id: env.other } }))],
  'a reused key with another order is a conflict': [409, 'PAYMENT_CHECKOUT_ALREADY_EXISTS', async () => {
    const key = { idempotencyKey: 'sdk-1', subject: mine };
    await client(env.token).createCheckoutSession('test', order(key));
    return client(env.token).createCheckoutSession('test', order({ ...key, cancelUrl: 'https://shop.example/x' }));
  }],
  'a subject without a customer has no portal': [404, 'PAYMENT_NOT_FOUND', () =>
    client(env.token).createCustomerPortalSession('test', { subject: { type: 'team', id: 'nobody' } })],
  'a bad body is named': [400, 'INVALID_INPUT', () =>
    client(env.token).createCheckoutSession('test', order({ lineItems: [] }))],
  'a bad token is refused': [401, 'AUTH_UNAUTHORIZED', () =>
    client('not.a.token').createCheckoutSession('test', order())],
};
for (const [name, [status, code, call]] of Object.entries(refusals)) {
  test(name, async () => {
    const { data, error } = await call();
    assert.equal(data, null);
    assert.equal(error.statusCode, status);
    assert.equal(error.error, code);
  });
}

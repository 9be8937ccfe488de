// The complete frontend of a checkout: get the visitor from the shop, create a session with
// Billhook, redirect to it. Prices, permissions and fulfillment are up to the server.

const base = document.body.dataset.base;
const here = (path) => `${location.origin}${base}${path}`;

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error('The shop could not be reached. Please try again.');
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw Object.assign(new Error(body.message ?? 'Something went wrong. Please try again.'), { status: answer.status });
  }
  return body;
}

function post(path, body, headers = {}) {
  return ask(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

// Call Billhook as the visitor: with the user's token, or with the anonymous key.
async function bill(route, body) {
  const me = await ask(`${base}/session`);
  return post(`/api/payments/stripe/test/${route}`, body(me), { Authorization: `Bearer ${me.token}` });
}

async function checkOut({ orderId, priceId, quantity, idempotencyKey }) {
  const { checkoutSession } = await bill('checkout-sessions', ({ userId, email }) => ({
    mode: 'payment',
    lineItems: [{ priceId, quantity }],
    successUrl: here(`/orders/${orderId}?returned=1`),
    cancelUrl: here(`/orders/${orderId}/cancelled`),
    metadata: { app: 'demo-shop', order_id: orderId },
    idempotencyKey,
    ...(userId && { subject: { type: 'user', id: userId }, customerEmail: email }),
  }));
  // If it was paid already, perhaps in another tab, the order's page shows the result.
  location.assign(checkoutSession.status === 'open' ? checkoutSession.url : here(`/orders/${orderId}`));
}

async function buy(form) {
  const { product, currency } = form.dataset;
  const quantity = form.elements.quantity.valueAsNumber;
  await checkOut(await post(`${base}/orders`, { product, currency, quantity }));
}

async function pay(form) {
  const { order, price, quantity, key } = form.dataset;
  await checkOut({ orderId: order, priceId: price, quantity: Number(quantity), idempotencyKey: key });
}

async function subscribe(form) {
  const { checkoutSession } = await bill('checkout-sessions', ({ email }) => ({
    mode: 'subscription',
    lineItems: [{ priceId: form.dataset.price, quantity: 1 }],
    successUrl: here('/team?returned=1'),
    cancelUrl: here('/team'),
    subject: { type: 'team', id: form.dataset.team },
    ...(email && { customerEmail: email }),
  }));
  location.assign(checkoutSession.url);
}

async function portal(form) {
  const { customerPortalSession } = await bill('customer-portal-sessions', () => ({
    subject: { type: 'team', id: form.dataset.team },
    returnUrl: here('/team'),
  }));
  location.assign(customerPortalSession.url);
}

function explain({ status, message }) {
  if (status === 401) return 'Guests can\'t subscribe. Choose a team member above.';
  if (status === 403) return 'Only an owner of the team can manage its billing.';
  if (status === 409) return 'This payment was started somewhere else. Reload the page and try again.';
  return message;
}

// The action of each form. Its button is disabled until this script has loaded, and during requests.
const actions = { buy, pay, subscribe, portal };
const problem = document.getElementById('problem');

for (const [name, act] of Object.entries(actions)) {
  for (const form of document.querySelectorAll(`form[data-${name}]`)) {
    const button = form.querySelector('button');
    button.disabled = false;
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      button.disabled = true;
      problem.hidden = true;
      try {
        await act(form);
      } catch (error) {
        problem.textContent = explain(error);
        problem.hidden = false;
        problem.scrollIntoView({ block: 'nearest' });
        button.disabled = false;
      }
    });
  }
}

// The browser's back button may restore the page with its button still disabled.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

// Poll the order, or the team, until the trigger has updated it.
const watched = document.querySelector('[data-watch]');
async function follow({ watch, now }) {
  const { status } = await ask(watch).catch(() => ({ status: now }));
  if (status !== now) location.reload();
  else setTimeout(follow, 700, { watch, now });
}
if (watched) follow(watched.dataset);

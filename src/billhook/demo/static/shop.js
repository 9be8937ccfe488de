// The shop's script: all that an app's frontend has to do with Billhook is in `bill` below.

const base = document.body.dataset.base;
const here = (path) => `${location.origin}${base}${path}`;

function say(text) {
  const problem = document.getElementById('problem');
  problem.textContent = text;
  problem.hidden = false;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.message), { status: answer.status });
  return body;
}

// Call Billhook as the visitor: with the user's token, or with the anonymous key.
async function bill(route, body) {
  const me = await ask(`${base}/session`);
  return ask(`/api/payments/stripe/test/${route}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${me.token}` },
    body: JSON.stringify(body(me)),
  });
}

async function pay(order) {
  const { checkoutSession } = await bill('checkout-sessions', (me) => ({
    mode: 'payment',
    lineItems: [{ priceId: order.priceId, quantity: order.quantity }],
    successUrl: here(`/orders/${order.orderId}?returned=1`),
    cancelUrl: here(`/orders/${order.orderId}/cancelled`),
    metadata: { app: 'demo-shop', order_id: order.orderId },
    idempotencyKey: order.idempotencyKey,
    ...(me.userId ? { subject: { type: 'user', id: me.userId }, customerEmail: me.email } : {}),
  }));
  location.assign(checkoutSession.status === 'open' ? checkoutSession.url : here(`/orders/${order.orderId}`));
}

// Run what a button does; while it runs the button rests, and what goes wrong is said.
function on(element, kind, work) {
  element?.addEventListener(kind, async (event) => {
    event.preventDefault();
    const button = event.submitter ?? event.currentTarget;
    button.disabled = true;
    try {
      await work(event.target);
    } catch (error) {
      say(error.status === 403 ? `That is not yours to bill. (${error.message})` : error.message);
      button.disabled = false;
    }
  });
}

for (const form of document.querySelectorAll('.order-form')) {
  on(form, 'submit', async () => {
    const { product, currency } = form.dataset;
    const quantity = Number(new FormData(form).get('quantity'));
    const body = JSON.stringify({ product, currency, quantity });
    await pay(await ask(`${base}/orders`, { method: 'POST', body }));
  });
}

for (const button of document.querySelectorAll('.pay')) {
  on(button, 'click', () => pay(JSON.parse(button.dataset.checkout)));
}

on(document.getElementById('subscribe'), 'click', async (button) => {
  const { checkoutSession } = await bill('checkout-sessions', (me) => ({
    mode: 'subscription',
    lineItems: [{ priceId: button.dataset.price, quantity: 1 }],
    successUrl: here('/team?returned=1'),
    cancelUrl: here('/team'),
    subject: { type: 'team', id: button.dataset.team },
    ...(me.email ? { customerEmail: me.email } : {}),
  }));
  location.assign(checkoutSession.url);
});

on(document.getElementById('portal'), 'click', async (button) => {
  const { customerPortalSession } = await bill('customer-portal-sessions', () => ({
    subject: { type: 'team', id: button.dataset.team },
    returnUrl: here('/team'),
  }));
  location.assign(customerPortalSession.url);
});

// Back from Stripe: follow the order (or the team) until the trigger has spoken.
async function follow(path, shown) {
  try {
    const { status } = await ask(path);
    if (status !== shown) return location.reload();
  } catch { /* asked again below */ }
  setTimeout(follow, 700, path, shown);
}
const order = document.getElementById('order-status');
if (order && ['pending', 'processing'].includes(order.textContent)) {
  follow(`${base}/orders/${order.dataset.order}/status`, order.textContent);
}
const team = document.getElementById('team-status');
if (team) follow(`${base}/team/status`, team.textContent);

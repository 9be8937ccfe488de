// What the pages do on top of plain forms: they also work without this script.

const brands = {
  visa: ['Visa', /^4/],
  mastercard: ['Mastercard', /^(5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/],
  amex: ['American Express', /^3[47]/],
  discover: ['Discover', /^(6011|64[4-9]|65)/],
};

const brandOf = (digits) => Object.keys(brands).find((name) => brands[name][1].test(digits));

function grouped(digits) {
  const parts = brandOf(digits) === 'amex'
    ? [digits.slice(0, 4), digits.slice(4, 10), digits.slice(10, 15)]
    : digits.slice(0, 19).match(/.{1,4}/g) ?? [];
  return parts.filter(Boolean).join(' ');
}

// MM / YY, also from "3", "0327", "3/27" and "03/2027".
function expiry(text, deletes) {
  let [, month, year] = text.match(/^\s*(\d{0,2})\D*(\d*)/);
  const separated = /\d\s*\//.test(text);
  if (month.length === 1 && (month > '1' || separated)) month = `0${month}`;
  if (month > '12') [month, year] = [`0${month[0]}`, month[1] + year];
  if (year.length > 2 && year.startsWith('20')) year = year.slice(2);
  if (month.length < 2 || (deletes && !year)) return month;
  return `${month} / ${year.slice(0, 2)}`;
}

// Sets a formatted value; the cursor stays behind the same digit.
function show(field, value) {
  const before = field.value.slice(0, field.selectionStart).replace(/\D/g, '').length;
  const atEnd = field.selectionStart === field.value.length;
  if (field.value === value) return;
  field.value = value;
  if (document.activeElement !== field || atEnd) return;
  let at = 0;
  for (let seen = 0; at < value.length && seen < before; at += 1) if (/\d/.test(value[at])) seen += 1;
  field.setSelectionRange(at, at);
}

function showBrand(card) {
  const field = card.querySelector('input');
  const brand = brandOf(field.value.replace(/\D/g, ''));
  card.dataset.card = brand ?? '';
  const name = card.querySelector('[data-brand-name]');
  const text = brand ? brands[brand][0] : '';
  if (name.textContent !== text) name.textContent = text;
}

for (const card of document.querySelectorAll('[data-card]')) {
  const field = card.querySelector('input');
  const format = () => {
    // Letters are left alone: the server says what is wrong with them.
    if (/^[\d\s-]*$/.test(field.value)) show(field, grouped(field.value.replace(/\D/g, '')));
    showBrand(card);
  };
  field.addEventListener('input', format);
  format();
}

for (const field of document.querySelectorAll('[name="expiry"]')) {
  field.addEventListener('input', (event) => {
    const deletes = event.inputType?.startsWith('delete') ?? false;
    if (/^[\d\s/-]*$/.test(field.value)) show(field, expiry(field.value, deletes));
  });
}

// An error is gone once its field changes.
for (const field of document.querySelectorAll('[aria-invalid]')) {
  field.addEventListener('input', () => {
    document.getElementById(`${field.id}-error`)?.remove();
    field.removeAttribute('aria-invalid');
    field.removeAttribute('aria-describedby');
    if (!document.querySelector('[aria-invalid]')) document.getElementById('error')?.remove();
  }, { once: true });
}

// A test card fills in the form at once; without this script, the server does.
function fill(form, values, { onlyEmpty }) {
  for (const [name, value] of values) {
    const field = form.elements[name];
    if (!field || (onlyEmpty && field.value)) continue;
    field.value = value; // of radio buttons, it selects one
    if (field instanceof HTMLInputElement) field.dispatchEvent(new Event('input'));
  }
}

// The values of `data-fill-…` attributes, by the name of the field.
const fields = (dataset, prefix) => Object.entries(dataset)
  .filter(([key]) => key.startsWith(prefix))
  .map(([key, value]) => [key.slice(prefix.length).toLowerCase(), value]);

for (const button of document.querySelectorAll('.sample')) {
  button.addEventListener('click', (event) => {
    event.preventDefault();
    fill(button.form, fields(button.dataset, 'fill'), { onlyEmpty: false });
    fill(button.form, fields(button.closest('.samples').dataset, 'empty'), { onlyEmpty: true });
    button.form.querySelector('button').focus();
  });
}

// The button spins, and a second click sends nothing.
for (const form of document.querySelectorAll('form[method="post"]')) {
  form.addEventListener('submit', (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = 'yes';
    event.submitter?.setAttribute('aria-busy', 'true');
  });
}

// The browser's back button may restore the page as it was left.
addEventListener('pageshow', () => {
  for (const form of document.querySelectorAll('form[data-sent]')) delete form.dataset.sent;
  for (const button of document.querySelectorAll('[aria-busy]')) button.removeAttribute('aria-busy');
});
